"""The history of a run's metrics: ``metrics/`` in its folder, written while it trains and read at any time.

Problem: a history grows for days, written by attempts that each resume from a state older than the last line of the
attempt before, perhaps on another number of GPUs; an S3 object cannot be appended to; a reader may read at any moment.
Idea: each attempt writes its own segments, ``attempt-K/00001.jsonl``, ...; only the newest is ever rewritten, and it is
small. Every attempt begins with a line that contains the position where it resumes: steps that earlier attempts wrote
beyond it are trained again, so a reader skips them. When an attempt begins, the segments of earlier attempts are merged
into one object, so the number of objects stays bounded.
Invariants: a reader sees every position at most once; a damaged line affects only itself; a failing store loses lines,
but never ends the run. A line is sent when it is written: a stopped attempt loses none, a killed one only the steps
since its last line, and published lines are replaced only where steps are trained again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tsp.errors import MissingKeyError, StoreError
from tsp.run.log_shipper import LogShipper
from tsp.run.records import strict, utc_now
from tsp.wording import counted

if TYPE_CHECKING:
    from tsp.run.stored_run import StoredRun
    from tsp.store.base import Entry

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 256 << 10
"""A segment that is this long is followed by a new one: it is what is sent again every few seconds."""
PAUSE_SEC = 1.0
"""Between two uploads of a segment: lines come every few seconds, and several at once at an epoch's end."""
SAMPLE_BYTES, SAMPLED_BYTES = 64 << 10, 2 << 20
"""A history longer than the latter is sampled by pieces of the former where only its shape is wanted."""
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
        """Append a line: the time, the attempt, its kind, and these values. Numbers that are not finite become null."""
        line = {"time": utc_now(), "attempt": self._attempt, "kind": kind, **values}
        text = json.dumps(strict(line, lambda _: None), separators=(",", ":")) + "\n"
        if self._shipper is None or self._size_bytes + len(text) > SEGMENT_BYTES:
            self._next_segment()
        if self._shipper is not None:
            self._shipper.write(text)
            self._size_bytes += len(text)

    def close(self) -> None:
        """Send the remaining lines."""
        if self._shipper is not None:
            self._shipper.close()
            self._shipper = None

    def _next_segment(self) -> None:
        self.close()
        self._number, self._size_bytes = self._number + 1, 0
        key = self._run.key(FOLDER, f"attempt-{self._attempt}", f"{self._number:05}.jsonl")
        try:
            self._shipper = LogShipper(self._run.store, key, every_sec=PAUSE_SEC, at_once=True)
        except StoreError as error:
            logger.warning("metrics cannot be written at the moment: %s", error)


class MetricsReader:
    """Reads a history that is being written: each call reads only new lines."""

    def __init__(self, run: StoredRun) -> None:
        self._run = run
        self._read_bytes: dict[str, int] = {}
        self._seen: set[int] = set()
        """Hashes of lines: a merge brings lines again."""

    def added(self) -> list[Line]:
        """Lines since the last call, at first the whole history; a line that is still being written comes later.

        A returned line does not change if a later attempt trains its steps again.
        Raises: StoreError if the store cannot be read.
        """
        entries = {entry.key: entry.size_bytes for entry in _entries(self._run)}
        texts: list[bytes] = []
        for key in _wanted(list(entries)):
            start = self._read_bytes.get(key, 0)
            if entries[key] <= start:
                continue
            data = _read_or_nothing(self._run, key, start)
            whole = data[: data.rfind(b"\n") + 1]
            self._read_bytes[key] = start + len(whole)
            texts += whole.splitlines()
        new = {hash(json.dumps(line, sort_keys=True)): line for line in _lines_of(texts, self._run)}
        lines = [line for key, line in new.items() if key not in self._seen]
        self._seen.update(new)
        return without_what_was_lost(lines)


def read_metrics(run: StoredRun) -> list[Line]:
    """The whole history, in the order of training; empty for runs that recorded none.

    Raises: StoreError if the store cannot be read.
    """
    return without_what_was_lost(_stored_lines(run))


def sample_metrics(run: StoredRun) -> list[Line]:
    """The history, or of a long one lines from all over it: enough for a small curve, whatever its length.

    Raises: StoreError if the store cannot be read.
    """
    entries = {entry.key: entry.size_bytes for entry in _entries(run)}
    wanted = _wanted(list(entries))
    total = sum(entries[key] for key in wanted)
    if total <= SAMPLED_BYTES:
        return read_metrics(run)
    every = total * SAMPLE_BYTES // SAMPLED_BYTES
    texts: list[bytes] = []
    due = 0
    for key in wanted:
        while due < entries[key]:
            data = _read_or_nothing(run, key, due, SAMPLE_BYTES)
            # The first and the last line are cut, unless they are the object's own.
            pieces = data.split(b"\n")
            texts += pieces[0 if due == 0 else 1 : -1]
            due += every
        due -= entries[key]
    return without_what_was_lost(_lines_of(texts, run))


def merge_metrics(run: StoredRun, attempt: int) -> None:
    """Merge all objects from before an attempt into one, if there are many. A crash in between neither loses nor
    duplicates lines.

    Raises: StoreError.
    """
    keys = [entry.key for entry in _entries(run)]
    keys = [key for key in keys if not (match := _SEGMENT.search(key)) or int(match[1]) < attempt]
    if len(keys) < MERGE_FROM:
        return
    merged = run.key(FOLDER, f"before-attempt-{attempt}.jsonl")
    lines = [line for line in _stored_lines(run) if line["attempt"] < attempt]
    run.store.write(merged, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())
    for key in keys:
        if key != merged:
            run.store.delete(key)


def without_what_was_lost(lines: Iterable[Line]) -> list[Line]:
    """Lines of all attempts without those beyond the position from which a later attempt resumed.

    An attempt that is killed between a validation and its checkpoint has it done again from the same position: the
    later validation of an epoch counts.
    """
    kept: list[Line] = []
    validated: set[int] = set()
    for line in lines:
        if line["kind"] == "start":
            resumed = position(line)
            kept = [item for item in kept if item["kind"] == "start" or position(item) <= resumed]
        elif line["kind"] == "valid":
            if line["epoch"] in validated:
                kept = [item for item in kept if (item["kind"], item["epoch"]) != ("valid", line["epoch"])]
            validated.add(line["epoch"])
        kept.append(line)
    return kept


def position(line: Mapping[str, Any]) -> float:
    """Epochs trained, with their fraction: comparable between attempts on different numbers of GPUs.

    A validation stands at the end of its epoch.
    """
    if line["kind"] == "valid":
        return float(line["epoch"] + 1)
    return float(line["epoch"] + (line["step"] / line["steps"] if line.get("steps") else 0.0))


def _stored_lines(run: StoredRun) -> list[Line]:
    """Lines of every attempt, in order; for merged lines, only the merged object's copies."""
    keys = [entry.key for entry in _entries(run)]
    return _lines_of([text for key in _wanted(keys) for text in _read_or_nothing(run, key).splitlines()], run)


def _read_or_nothing(run: StoredRun, key: str, start: int = 0, size_bytes: int | None = None) -> bytes:
    try:
        return run.store.read(key, offset_bytes=start, size_bytes=size_bytes)
    except MissingKeyError:
        return b""  # merged just now


def _wanted(keys: list[str]) -> list[str]:
    """The objects of the history: the newest merged one, and later ones."""
    merged = max((int(match[1]) for key in keys if (match := _MERGED.search(key))), default=0)
    wanted = [key for key in keys if key.endswith(f"before-attempt-{merged}.jsonl")]
    return wanted + [key for key in keys if (match := _SEGMENT.search(key)) and int(match[1]) >= merged]


def _lines_of(texts: Iterable[bytes], run: StoredRun) -> list[Line]:
    """Those that can be read; the others are counted in a warning."""
    found = [_parsed(text) for text in texts]
    lines = [line for line in found if line is not None]
    if len(lines) < len(found):
        logger.warning(
            "%s of the metrics of %s left out", counted(len(found) - len(lines), "damaged line"), run.address()
        )
    return lines


def _entries(run: StoredRun) -> list[Entry]:
    found = run.store.list(f"{run.key(FOLDER)}/")
    return sorted(
        (entry for entry in found if _SEGMENT.search(entry.key) or _MERGED.search(entry.key)),
        key=lambda entry: _order(entry.key),
    )


def _order(key: str) -> tuple[int, int]:
    match = _SEGMENT.search(key)
    return (int(match[1]), int(match[2])) if match else (-1, 0)


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
