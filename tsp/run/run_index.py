"""The state of all runs of a bucket in one request: an index that the runs maintain themselves.

Problem: ``list`` shows progress and best epoch of hundreds of runs, and reading each from its own objects takes a
request or two per run.
Idea: the response to a list request contains the keys of objects, but not their content. So each run keeps one empty
object whose key contains its state: ``.index/<run>,<facts>``, with a slash after each ``SEGMENT_BYTES``, since servers
that keep objects as files (MinIO, rclone) limit the length of names between slashes. A thousand runs are one page. The
process that writes ``progress.json`` also writes the entry, with the same permissions; the new key is written first,
then the old one is deleted.
Invariants: an entry is refreshed at least every ``REFRESH_SEC`` while the run reports progress, so its age shows
whether its run still maintains it; no fact is stored only in the index, and a run without an entry (of an older
version, or without permission to write here) loses nothing; of several entries, the newest one of the newest attempt
counts.

Local stores have no index: reading their files is faster than maintaining one.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from tsp.errors import StoreError, StoreUnreachableError
from tsp.run.records import Progress, load_record
from tsp.store.base import Entry, Store

logger = logging.getLogger(__name__)

PREFIX = ".index/"
REFRESH_SEC = 60.0
MAX_KEY_BYTES = 900
"""S3 allows 1024, the store's prefix included."""
SEGMENT_BYTES = 200
"""A file's name may have 255 bytes; servers add some of their own."""
MAX_FAILURES = 3
"""In a row, of a server that took ``progress.json`` each time: then it is the entry that it does not take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedRun:
    """A run in the index: the lasting part of its progress, and its recipe."""

    attempt: int
    phase: str
    epoch: int
    epochs: int
    best_epoch: int | None = None
    best_accuracy_percent: float | None = None
    world_size: int | None = None
    downscale: int | None = None
    batch_per_gpu: int | None = None
    global_batch: int | None = None
    backbone_lr: float | None = None
    head_lr: float | None = None
    bad_clips: int | None = None
    device: str | None = None
    method: str | None = None
    dataset: str | None = None
    backbone: str | None = None

    @property
    def position(self) -> tuple[object, ...]:
        """A change of these writes a new key at once; all other facts are as of that moment."""
        is_done = self.phase == "done"
        return self.attempt, is_done, self.epoch, self.epochs, self.best_epoch, self.best_accuracy_percent


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An entry, and when it was refreshed last by the store's clock."""

    facts: IndexedRun
    modified: datetime


class IndexWriter:
    """Keeps the entry of one run. For one thread."""

    def __init__(self, store: Store, run: str, read_config: Callable[[], Mapping[str, Any]]) -> None:
        """Args: read_config, gives the run's configuration as in run.json, empty while there is none."""
        self._store, self._run, self._read_config = store, run, read_config
        self._config: Mapping[str, Any] = {}
        self._key = ""
        self._facts: IndexedRun | None = None
        self._written_sec = 0.0
        self._stale: set[str] | None = None
        self._is_off = store.is_local or not run
        self._failures = 0

    def publish(self, progress: Progress) -> None:
        """Bring the entry up to date if the run has moved on or the entry gets old.

        A store that refuses is warned of once: the index is an extra, and never hinders ``progress.json``.
        """
        facts = facts_of(progress, self._config)
        is_same = self._facts is not None and self._facts.position == facts.position
        if self._is_off or (is_same and time.monotonic() - self._written_sec < REFRESH_SEC):
            return
        try:
            if not self._config:
                self._config = self._read_config()
                facts = facts_of(progress, self._config)
            self._write(facts, self._key if is_same else key_of(self._run, facts))
            self._failures = 0
        except StoreError as error:
            self._failures += 1
            if isinstance(error, StoreUnreachableError) and self._failures < MAX_FAILURES:
                logger.debug("the next progress report will retry: %s", error)
                return
            logger.warning("'tspctl list' will be slower, since the index of runs cannot be written: %s", error)
            self._is_off = True

    def _write(self, facts: IndexedRun, key: str) -> None:
        if self._stale is None:
            self._stale = {entry.key for entry in self._store.list(_prefix_of(self._run))}
        self._store.write(key, b"")
        self._stale |= {self._key} if self._key else set()
        self._key, self._facts, self._written_sec = key, facts, time.monotonic()
        for stale in sorted(self._stale - {key}):
            self._store.delete(stale)
        self._stale = set()


def read_index(store: Store) -> dict[str, IndexEntry]:
    """Run -> its entry, for all runs of a store that keep one. Other keys are skipped."""
    found: dict[str, IndexEntry] = {}
    for entry in store.list(PREFIX):
        name, _, text = entry.key.removeprefix(PREFIX).replace("/", "").partition(",")
        item = _parse(text, entry)
        if item is None:
            continue
        best = found.get(name)
        if best is None or (item.facts.attempt, item.modified) > (best.facts.attempt, best.modified):
            found[name] = item
    return found


def remove_from_index(store: Store, run: str) -> None:
    """Remove a run's entries.

    Raises: StoreError.
    """
    if not store.is_local:
        store.delete_all(_prefix_of(run))


def _prefix_of(run: str) -> str:
    return f"{PREFIX}{run},"


def key_of(run: str, facts: IndexedRun) -> str:
    """The key that holds a run's state."""
    known = {name: value for name, value in dataclasses.asdict(facts).items() if value is not None}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}
    entry = f"{run},{urlencode(texts, quote_via=quote, safe='')}"
    key = PREFIX + "/".join(entry[start : start + SEGMENT_BYTES] for start in range(0, len(entry), SEGMENT_BYTES))
    if len(key) <= MAX_KEY_BYTES:
        return key
    # A name of a data set may be as long as a file's.
    return key_of(run, dataclasses.replace(facts, dataset=None, method=None, backbone=None, device=None))


def facts_of(progress: Progress, config: Mapping[str, Any]) -> IndexedRun:
    """A run's facts for the index. Args: config, as in run.json; what it lacks is left out."""

    def part(name: str) -> Mapping[str, Any]:
        found = config.get(name)
        return found if isinstance(found, dict) else {}

    names = {item.name for item in dataclasses.fields(IndexedRun)}
    facts = {name: value for name, value in dataclasses.asdict(progress).items() if name in names}
    return IndexedRun(
        **facts,
        method=config.get("method"),
        dataset=part("data").get("name"),
        backbone=part("model").get("backbone"),
    )


_TEXTS = frozenset({"phase", "device", "method", "dataset", "backbone"})


def _parse(text: str, entry: Entry) -> IndexEntry | None:
    try:
        values = {name: value if name in _TEXTS else json.loads(value) for name, value in parse_qsl(text)}
        return IndexEntry(load_record(IndexedRun, json.dumps(values).encode(), where=entry.key), entry.modified)
    except (ValueError, StoreError) as error:
        logger.debug("%s", error)
        return None
