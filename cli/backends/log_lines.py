"""Log lines of many ranks as one stream, merged by time.

Problem: each rank of each attempt writes its own file, of any size and content, while it is being read: progress bars
rewrite one line forever, tracebacks have no timestamps, clocks are set back.
Idea: a cursor per file turns new bytes into complete lines, and the cursors of an attempt are merged lazily by time.
Invariants: no line is lost or repeated, since a cursor only moves forward, and the end of the run is checked before the
last read; lines of one rank keep their order; memory is bounded per rank (one chunk, one line of at most
``MAX_LINE_BYTES``), whatever the ranks write. Lines of different ranks may be swapped within one polling interval.
"""

from __future__ import annotations

import heapq
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cli.backends.base import LogLine, LogQuery
from tsp.run.log_files import attempt_folder, attempts_among, log_name, ranks_among

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
"""Longer lines are split."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?) ")
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class LogSource(Protocol):
    """Logs as ``attempt -> rank -> append-only bytes``."""

    def attempts(self) -> list[int]:
        """Attempts that have logs, ascending."""
        ...

    def ranks(self, attempt: int) -> list[int]:
        """Ranks of an attempt that have logs, ascending."""
        ...

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        """At most ``CHUNK_BYTES`` from the offset on; empty only at the end."""
        ...

    def size_bytes(self, attempt: int, rank: int) -> int:
        """Length of a log now; 0 if it is gone."""
        ...


class FolderLogs:
    """Logs in a folder, as ``attempt-K/rank-R.log``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def attempts(self) -> list[int]:
        return attempts_among(_names_in(self.folder))

    def ranks(self, attempt: int) -> list[int]:
        return ranks_among(_names_in(self.folder / attempt_folder(attempt)))

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        try:
            with self._file(attempt, rank).open("rb") as file:
                file.seek(offset_bytes)
                return file.read(CHUNK_BYTES)
        except FileNotFoundError:
            # Deleted while being followed.
            return b""

    def size_bytes(self, attempt: int, rank: int) -> int:
        """Of a file."""
        try:
            return self._file(attempt, rank).stat().st_size
        except FileNotFoundError:
            return 0

    def _file(self, attempt: int, rank: int) -> Path:
        return self.folder / attempt_folder(attempt) / log_name(rank)


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def split_time(text: str) -> tuple[datetime | None, str]:
    """The ISO time at the start of a line (without a zone: local time), and the rest; None and the line without one."""
    match = _TIME.match(text)
    if match is None:
        return None, text
    try:
        return datetime.fromisoformat(match[1].replace(",", ".")).astimezone(UTC), text[match.end() :]
    except (ValueError, OverflowError):
        # Not a date, or one so near to the end of the calendar that it has no equivalent in UTC.
        return None, text


def as_shown(rank: int, text: str) -> tuple[datetime | None, str]:
    """A line's own time, and its text without time and rank.

    If a line was rewritten with carriage returns (a progress bar), only the last text is kept.
    """
    written, text = split_time(text.rstrip("\r").rpartition("\r")[2])
    return written, text.removeprefix(f"rank {rank} ")


class _Cursor:
    """Position in the log of one rank and attempt."""

    def __init__(self, source: LogSource, attempt: int, rank: int, offset_bytes: int = 0) -> None:
        self.source, self.attempt, self.rank = source, attempt, rank
        self.offset_bytes = offset_bytes
        self.rest = b""
        self.time = _BEGINNING

    def lines(self, *, flush: bool) -> Iterator[LogLine]:
        """New complete lines; with ``flush`` also an incomplete last one."""
        while chunk := self.source.read(self.attempt, self.rank, self.offset_bytes):
            self.offset_bytes += len(chunk)
            *whole, rest = (self.rest + chunk).split(b"\n")
            yield from map(self._line, whole)
            # Of a line that is rewritten again and again only the current text is kept; one without an end is split.
            self.rest = rest[rest.rstrip(b"\r").rfind(b"\r") + 1 :]
            if len(self.rest) > MAX_LINE_BYTES:
                yield self._line(self.rest)
                self.rest = b""
        if flush and self.rest:
            last, self.rest = self.rest, b""
            yield self._line(last)

    def _line(self, raw: bytes) -> LogLine:
        written, text = as_shown(self.rank, raw.decode(errors="replace"))
        # Lines without a time (tracebacks) get that of the line before; a clock set back must not reorder them.
        self.time = max(self.time, written or self.time)
        return LogLine(self.rank, text, None if self.time == _BEGINNING else self.time)


def read_lines(
    source: LogSource, query: LogQuery, *, ended: Callable[[], bool] | None = None, poll_sec: float = 0.3
) -> Iterator[LogLine]:
    """Lines of the ranks in ``query``, attempt by attempt, merged by time.

    Args: ended, to follow: whether nothing more will be written; None: read what is there, without waiting.
    """
    cursors = _cursors_at_tail(source, query) if query.tail is not None else {}
    first_look = True
    while True:
        # Asked before reading, so that everything written before the end is read.
        done = ended is None or ended()
        lines = _new_lines(source, query, cursors, flush=done)
        yield from _tail(lines, query.tail) if first_look and query.tail is not None else lines
        first_look = False
        if done:
            return
        time.sleep(poll_sec)


def _cursors_at_tail(source: LogSource, query: LogQuery) -> dict[tuple[int, int], _Cursor]:
    """Cursors that start at the last lines of each rank, so that earlier lines need not be read."""
    cursors: dict[tuple[int, int], _Cursor] = {}
    wanted: dict[int, int] = {}
    for attempt in reversed(_wanted(source.attempts(), query)):
        for rank in source.ranks(attempt):
            left = wanted.get(rank, query.tail or 0)
            offset_bytes, num_lines = _tail_start(source, attempt, rank, left)
            wanted[rank] = left - num_lines
            cursors[attempt, rank] = _Cursor(source, attempt, rank, offset_bytes)
    return cursors


def _tail_start(source: LogSource, attempt: int, rank: int, num_lines: int) -> tuple[int, int]:
    """The offset of the last lines of a log, searched from its end, and their number. There are fewer in a shorter log,
    and more if the first of them has no time, since it belongs to a line before it.
    """
    size_bytes = end = source.size_bytes(attempt, rank)
    found, start = 0, size_bytes
    while end > 0 and found < num_lines:
        start = max(0, end - CHUNK_BYTES)
        chunk = _span(source, attempt, rank, start, end)
        # The end of the last line is not the beginning of another.
        at = len(chunk) - (end == size_bytes)
        while (at := chunk.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found >= num_lines and split_time(chunk[at + 1 : at + 80].decode(errors="replace"))[0] is not None:
                return start + at + 1, found
        end = start
    return (start, found + 1) if found < num_lines and size_bytes else (start, found)


def _span(source: LogSource, attempt: int, rank: int, start: int, end: int) -> bytes:
    span = b""
    while start + len(span) < end and (more := source.read(attempt, rank, start + len(span))):
        span += more
    return span[: end - start]


def _new_lines(
    source: LogSource, query: LogQuery, cursors: dict[tuple[int, int], _Cursor], *, flush: bool
) -> Iterator[LogLine]:
    for attempt in _wanted(source.attempts(), query):
        new = []
        for rank in source.ranks(attempt):
            if query.ranks is None or rank in query.ranks:
                cursor = cursors.setdefault((attempt, rank), _Cursor(source, attempt, rank))
                new.append(cursor.lines(flush=flush))
        for line in heapq.merge(*new, key=lambda line: line.time or _BEGINNING):
            if query.since is None or line.time is None or line.time >= query.since:
                yield line


def _wanted(attempts: list[int], query: LogQuery) -> list[int]:
    if query.previous:
        return attempts[-2:-1]
    return [attempt for attempt in attempts if query.attempt is None or attempt == query.attempt]


def _tail(lines: Iterator[LogLine], num_lines: int) -> Iterator[LogLine]:
    """The last lines of each rank, in order."""
    last: dict[int, deque[tuple[int, LogLine]]] = {}
    for position, line in enumerate(lines):
        last.setdefault(line.rank, deque(maxlen=num_lines)).append((position, line))
    kept = sorted((item for items in last.values() for item in items), key=lambda item: item[0])
    yield from (line for _, line in kept)
