"""The history of a run, step by step: ``metrics/`` in its folder, written while it trains and read at any time.

Problem: a history is appended to for days, by attempts that each resume from a state older than what the one before
wrote last, perhaps on another number of GPUs; an S3 object cannot be appended to; a reader may come at any moment.
Idea: each attempt writes segments of its own, ``attempt-K/00001.jsonl``, ...; only the newest is ever written again,
and it is small. Every attempt begins with a line that says where it resumes: what earlier attempts wrote beyond that
point was lost with them and is trained again, so a reader leaves it out. When an attempt begins, what is before it is
merged into one object, so the number of objects stays bounded.
Invariants: a reader sees every position at most once; a line that is damaged costs itself; a store that fails costs
lines, never the run. A killed attempt loses the lines of its last seconds.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tsp.errors import MissingKeyError, StoreError
from tsp.run.log_shipper import LogShipper
from tsp.run.records import strict, utc_now

if TYPE_CHECKING:
    from tsp.run.stored_run import StoredRun

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 256 << 10
"""A segment that is this long is followed by a new one: it is what is sent again every few seconds."""
SEND_EVERY_SEC = 10.0
MERGE_FROM = 8
"""Objects from which an attempt that begins merges them."""
FOLDER = "metrics"
_SEGMENT = re.compile(r"attempt-(\d+)/(\d{5})\.jsonl")
_MERGED = re.compile(r"before-attempt-(\d+)\.jsonl")

Line = dict[str, Any]


class MetricsLog:
    """Where an attempt writes its lines. Never raises because of the store, and never waits for it but in ``close``."""

    def __init__(self, run: StoredRun, attempt: int) -> None:
        self._run, self._attempt = run, attempt
        self._number, self._size_bytes = 0, 0
        self._shipper: LogShipper | None = None

    def write(self, kind: str, **values: Any) -> None:
        """Append a line: the time, the attempt, its kind, and these values. What is no finite number becomes null."""
        line = {"time": utc_now(), "attempt": self._attempt, "kind": kind, **values}
        text = json.dumps(strict(line, lambda _: None), separators=(",", ":")) + "\n"
        if self._shipper is None or self._size_bytes + len(text) > SEGMENT_BYTES:
            self._next_segment()
        if self._shipper is not None:
            self._shipper.write(text)
            self._size_bytes += len(text)

    def close(self) -> None:
        """Send what is left."""
        if self._shipper is not None:
            self._shipper.close()
            self._shipper = None

    def _next_segment(self) -> None:
        self.close()
        self._number, self._size_bytes = self._number + 1, 0
        key = self._run.key(FOLDER, f"attempt-{self._attempt}", f"{self._number:05}.jsonl")
        try:
            self._shipper = LogShipper(self._run.store, key, every_sec=SEND_EVERY_SEC)
        except StoreError as error:
            logger.warning("metrics are not written for now: %s", error)


def read_metrics(run: StoredRun) -> list[Line]:
    """The whole history, in the order of training; empty for runs that recorded none.

    Raises: StoreError if the store cannot be read.
    """
    return without_what_was_lost(_stored_lines(run))


def merge_metrics(run: StoredRun, attempt: int) -> None:
    """Make one object of everything before an attempt, if there are many. A crash in between loses and doubles nothing.

    Raises: StoreError.
    """
    keys = [key for key in _keys(run) if _attempt_of(key) < attempt or _MERGED.search(key)]
    if len(keys) < MERGE_FROM:
        return
    merged = run.key(FOLDER, f"before-attempt-{attempt}.jsonl")
    lines = [line for line in _stored_lines(run) if line["attempt"] < attempt]
    run.store.write(merged, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())
    for key in keys:
        if key != merged:
            run.store.delete(key)


def without_what_was_lost(lines: Iterable[Line]) -> list[Line]:
    """Lines of all attempts without those beyond the position from which a later attempt resumed."""
    kept: list[Line] = []
    for line in lines:
        if line["kind"] == "start":
            resumed = position(line)
            kept = [item for item in kept if item["kind"] == "start" or position(item) <= resumed]
        kept.append(line)
    return kept


def position(line: Mapping[str, Any]) -> float:
    """Epochs trained, with their fraction: comparable between attempts on different numbers of GPUs.

    A validation stands at the end of its epoch.
    """
    if line["kind"] == "valid":
        return float(line["epoch"] + 1)
    return float(line["epoch"] + (line["step"] / line["steps"] if line.get("steps") else 0.0))


def _stored_lines(run: StoredRun) -> Iterator[Line]:
    """Lines of every attempt, in order; of what a merged object holds, its copies alone."""
    keys = _keys(run)
    merged = max((int(match[1]) for key in keys if (match := _MERGED.search(key))), default=0)
    wanted = [key for key in keys if key.endswith(f"before-attempt-{merged}.jsonl")]
    wanted += [key for key in keys if _SEGMENT.search(key) and _attempt_of(key) >= merged]
    num_damaged = 0
    for key in wanted:
        try:
            data = run.store.read(key)
        except MissingKeyError:
            continue  # merged just now
        for text in data.splitlines():
            if (line := _parsed(text)) is None:
                num_damaged += 1
            else:
                yield line
    if num_damaged:
        logger.warning("%d damaged lines of the metrics of %s are left out", num_damaged, run.address())


def _keys(run: StoredRun) -> list[str]:
    prefix = f"{run.key(FOLDER)}/"
    found = [entry.key for entry in run.store.list(prefix)]
    return sorted((key for key in found if _SEGMENT.search(key) or _MERGED.search(key)), key=_order)


def _order(key: str) -> tuple[int, int]:
    match = _SEGMENT.search(key)
    return (int(match[1]), int(match[2])) if match else (-1, 0)


def _attempt_of(key: str) -> int:
    match = _SEGMENT.search(key)
    return int(match[1]) if match else 0


def _parsed(text: bytes) -> Line | None:
    """A line, or None if it is cut, damaged or foreign."""
    try:
        line = json.loads(text)
        position(line)
        if not isinstance(line["attempt"], int) or not isinstance(line["time"], str):
            return None
    except (ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError):
        return None
    return dict(line)
