"""Lines of many ranks as one stream in the order of time: constant memory, no line lost or doubled."""

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

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
"""A longer line is shown in parts."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?) ")
_ATTEMPT_FOLDER = re.compile(r"attempt-(\d+)")
_RANK_FILE = re.compile(r"rank-(\d+)\.log")
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class LogSource(Protocol):
    """Logs as ``attempt -> rank -> bytes that only grow``."""

    def attempts(self) -> list[int]:
        """Attempts that have logs, rising."""
        ...

    def ranks(self, attempt: int) -> list[int]:
        """Ranks of an attempt that have logs, rising."""
        ...

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        """Bytes from the offset on, at least one unless at the end."""
        ...


class FolderLogs:
    """Logs in a folder, as ``attempt-K/rank-R.log``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def attempts(self) -> list[int]:
        """Attempts that have a folder."""
        return _numbers(self.folder, _ATTEMPT_FOLDER)

    def ranks(self, attempt: int) -> list[int]:
        """Ranks that have a file."""
        return _numbers(self.folder / f"attempt-{attempt}", _RANK_FILE)

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        """At most ``CHUNK_BYTES`` of a file."""
        try:
            with (self.folder / f"attempt-{attempt}" / f"rank-{rank}.log").open("rb") as file:
                file.seek(offset_bytes)
                return file.read(CHUNK_BYTES)
        except FileNotFoundError:
            # Deleted while being followed.
            return b""


def _numbers(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    """Numbers in the names of a folder's items, rising; other names are not ours."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))


def split_time(text: str) -> tuple[datetime | None, str]:
    """The ISO time a line starts with (without a zone: local time) and the rest; None and the line if it has none."""
    match = _TIME.match(text)
    if match is None:
        return None, text
    try:
        return datetime.fromisoformat(match[1].replace(",", ".")).astimezone(UTC), text[match.end() :]
    except (ValueError, OverflowError):
        # No date, or one so near to the calendar's end that no other zone has it.
        return None, text


def as_shown(rank: int, text: str) -> tuple[datetime | None, str]:
    """When a line of a rank says it was written, and the line as backends show it, without time and rank.

    A progress bar rewrites its line: what it showed last counts.
    """
    written, text = split_time(text.rstrip("\r").rpartition("\r")[2])
    return written, text.removeprefix(f"rank {rank} ")


class _Cursor:
    """How far one rank's log of one attempt has been read."""

    def __init__(self, source: LogSource, attempt: int, rank: int) -> None:
        self.source, self.attempt, self.rank = source, attempt, rank
        self.offset_bytes = 0
        self.rest = b""
        self.time = _BEGINNING

    def lines(self, *, flush: bool) -> Iterator[LogLine]:
        """New whole lines; with ``flush`` also the last one without an end."""
        while chunk := self.source.read(self.attempt, self.rank, self.offset_bytes):
            self.offset_bytes += len(chunk)
            *whole, rest = (self.rest + chunk).split(b"\n")
            yield from map(self._line, whole)
            # Of a line that is rewritten for ever only what it shows now is kept; one that never ends is cut.
            self.rest = rest[rest.rstrip(b"\r").rfind(b"\r") + 1 :]
            if len(self.rest) > MAX_LINE_BYTES:
                yield self._line(self.rest)
                self.rest = b""
        if flush and self.rest:
            last, self.rest = self.rest, b""
            yield self._line(last)

    def _line(self, raw: bytes) -> LogLine:
        written, text = as_shown(self.rank, raw.decode(errors="replace"))
        # Lines without a time (tracebacks) belong to the line before; a clock set back must not mix up a rank's lines.
        self.time = max(self.time, written or self.time)
        return LogLine(self.rank, text, None if self.time == _BEGINNING else self.time)


def read_lines(
    source: LogSource, query: LogQuery, *, ended: Callable[[], bool] | None = None, poll_sec: float = 0.3
) -> Iterator[LogLine]:
    """Lines of all wanted ranks, attempt after attempt, merged by time.

    Args: ended, for following: says whether nothing more will be written; None: what is there now, no waiting.
    """
    cursors: dict[tuple[int, int], _Cursor] = {}
    first_look = True
    while True:
        # Asked before reading: what is written up to the end is then read for certain.
        done = ended is None or ended()
        lines = _new_lines(source, query, cursors, flush=done)
        yield from _tail(lines, query.tail) if first_look and query.tail is not None else lines
        first_look = False
        if done:
            return
        time.sleep(poll_sec)


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
    """The last lines of each rank, in their order."""
    last: dict[int, deque[tuple[int, LogLine]]] = {}
    for position, line in enumerate(lines):
        last.setdefault(line.rank, deque(maxlen=num_lines)).append((position, line))
    kept = sorted((item for items in last.values() for item in items), key=lambda item: item[0])
    yield from (line for _, line in kept)
