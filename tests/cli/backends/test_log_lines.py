import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.backends import log_lines
from cli.backends.base import LogLine, LogQuery
from cli.backends.log_lines import CHUNK_BYTES, FolderLogs, read_lines, split_time


class MemoryLogs:
    """Logs that give only a few bytes at a time, wherever a line may be cut."""

    def __init__(self, texts: dict[tuple[int, int], bytes], most_bytes: int) -> None:
        self.texts, self.most_bytes = texts, most_bytes

    def attempts(self) -> list[int]:
        return sorted({attempt for attempt, _ in self.texts})

    def ranks(self, attempt: int) -> list[int]:
        return sorted(rank for of, rank in self.texts if of == attempt)

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        return self.texts[attempt, rank][offset_bytes : offset_bytes + self.most_bytes]

    def size_bytes(self, attempt: int, rank: int) -> int:
        return len(self.texts[attempt, rank])


@settings(max_examples=60, deadline=None)
@given(
    ticks=st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(0, 3)), st.lists(st.integers(0, 59), max_size=8), min_size=1
    ),
    most_bytes=st.integers(1, 40),
)
def test_every_line_comes_once_ordered_by_attempt_then_time(
    ticks: dict[tuple[int, int], list[int]], most_bytes: int
) -> None:
    texts = {
        key: "".join(f"2026-01-01T00:00:{tick:02}Z {key}/{i}\n" for i, tick in enumerate(sorted(of))).encode()
        for key, of in ticks.items()
    }
    lines = list(read_lines(MemoryLogs(texts, most_bytes), LogQuery()))
    assert sorted(line.text for line in lines) == sorted(f"{k}/{i}" for k, of in ticks.items() for i in range(len(of)))
    keys = [(int(line.text[1]), line.time) for line in lines]
    assert keys == sorted(keys, key=lambda key: (key[0], key[1] or datetime.min))
    for key in ticks:
        own = [line.text for line in lines if line.text.startswith(str(key))]
        assert own == sorted(own)


@settings(max_examples=100, deadline=None)
@given(
    lines=st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(0, 2)),
        st.lists(st.tuples(st.integers(0, 59), st.booleans(), st.integers(0, 30)), max_size=9),
        min_size=1,
    ),
    most_bytes=st.integers(1, 60),
    chunk_bytes=st.integers(40, 90),
    tail=st.integers(0, 6),
    is_cut=st.booleans(),
)
def test_a_tail_is_the_end_of_all_lines_though_only_the_end_is_read(
    lines: dict[tuple[int, int], list[tuple[int, bool, int]]],
    most_bytes: int,
    chunk_bytes: int,
    tail: int,
    is_cut: bool,
) -> None:
    texts = {
        key: "\n".join(
            f"2026-01-01T00:00:{tick:02}Z {key}/{i}" if timed else f"{key}/{i} {'x' * length}"
            for i, (tick, timed, length) in enumerate(sorted(of))
        ).encode()
        + b"\n" * (not is_cut and bool(of))
        for key, of in lines.items()
    }
    whole = list(read_lines(MemoryLogs(texts, 10_000), LogQuery()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_lines, "CHUNK_BYTES", chunk_bytes)
        found = list(read_lines(MemoryLogs(texts, most_bytes), LogQuery(tail=tail)))
    for rank in range(3):
        expected = [line.text for line in whole if line.rank == rank]
        assert [line.text for line in found if line.rank == rank] == expected[
            len(expected) - min(tail, len(expected)) :
        ]


class CountedLogs(MemoryLogs):
    """Counts the bytes that are read."""

    num_bytes = 0

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        data = super().read(attempt, rank, offset_bytes)
        self.num_bytes += len(data)
        return data


def test_a_tail_of_long_logs_reads_their_ends_alone() -> None:
    line = b"2026-01-01T00:00:01Z a line of a long log\n"
    logs = CountedLogs({(1, rank): line * 400_000 for rank in range(2)}, CHUNK_BYTES)
    assert len(list(read_lines(logs, LogQuery(tail=3)))) == 6
    assert logs.num_bytes < 3 * CHUNK_BYTES


def test_following_a_growing_file_loses_and_doubles_nothing(tmp_path: Path) -> None:
    logs = tmp_path / "attempt-1" / "rank-0.log"
    written = threading.Event()

    def write() -> None:
        logs.parent.mkdir()
        with logs.open("ab", buffering=0) as file:
            for number in range(3000):
                text = f"2026-01-01T00:00:00Z line {number}\n".encode()
                # Cut in two, so that the reader meets half lines.
                file.write(text[: number % len(text)])
                file.write(text[number % len(text) :])
            file.write(b"2026-01-01T00:00:00Z no line end")
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    lines = list(read_lines(FolderLogs(tmp_path), LogQuery(follow=True), ended=written.is_set, poll_sec=0.001))
    writer.join()
    assert [line.text for line in lines] == [*(f"line {number}" for number in range(3000)), "no line end"]


def test_following_holds_no_more_than_a_look_in_memory() -> None:
    texts = {(1, 0): b"".join(b"2026-01-01T00:00:00Z line %d\n" % number for number in range(5000))}
    stream: Iterator[LogLine] = read_lines(MemoryLogs(texts, 100), LogQuery())
    assert next(stream).text == "line 0"
    texts[1, 0] += b"2026-01-01T00:00:01Z written while reading\n"
    assert [line.text for line in stream][-1] == "written while reading"


def test_lines_without_time_stay_behind_the_line_they_belong_to() -> None:
    texts = {
        (1, 0): b"2026-01-01T00:00:01Z ERROR it broke\nTraceback\n  at line 3\n2026-01-01T00:00:05Z end\n",
        (1, 1): b"2026-01-01T00:00:02Z other\n",
    }
    lines = list(read_lines(MemoryLogs(texts, 1000), LogQuery()))
    assert [line.text for line in lines] == ["ERROR it broke", "Traceback", "  at line 3", "other", "end"]
    assert [line.time.second if line.time else None for line in lines] == [1, 1, 1, 2, 5]


def test_a_clock_that_is_set_back_does_not_mix_up_a_rank() -> None:
    texts = {(1, 0): b"2026-01-01T00:00:09Z a\n2026-01-01T00:00:01Z b\n", (1, 1): b"2026-01-01T00:00:05Z c\n"}
    lines = list(read_lines(MemoryLogs(texts, 1000), LogQuery()))
    assert [line.text for line in lines] == ["c", "a", "b"]
    assert lines[2].time == lines[1].time


def test_tail_counts_per_rank_and_keeps_the_order() -> None:
    texts = {
        (1, 0): b"2026-01-01T00:00:01Z a1\n2026-01-01T00:00:04Z a4\n",
        (1, 1): b"2026-01-01T00:00:02Z b2\n2026-01-01T00:00:03Z b3\n2026-01-01T00:00:05Z b5\n",
        (2, 0): b"2026-01-01T00:00:06Z a6\n",
    }
    source = MemoryLogs(texts, 1000)
    assert [line.text for line in read_lines(source, LogQuery(tail=2))] == ["b3", "a4", "b5", "a6"]
    assert [line.text for line in read_lines(source, LogQuery(tail=0))] == []
    assert [line.text for line in read_lines(source, LogQuery(attempt=2))] == ["a6"]
    assert [line.text for line in read_lines(source, LogQuery(previous=True, ranks=(0,)))] == ["a1", "a4"]


def test_a_progress_bar_shows_its_last_state_only() -> None:
    texts = {(1, 0): b"10%\r50%\r100%\nnext\r\n"}
    assert [line.text for line in read_lines(MemoryLogs(texts, 5), LogQuery())] == ["100%", "next"]


def test_times_are_read_in_the_usual_spellings() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 250000, UTC)
    for text in ("2026-01-02T03:04:05.250Z x", "2026-01-02 05:04:05,25+02:00 x", "2026-01-02T03:04:05.250+0000 x"):
        assert split_time(text) == (moment, "x")
    for text in ("no time", "2026-13-45T99:99:99Z x", "2026-01-02T03:04:05"):
        assert split_time(text) == (None, text)


class EndlessLogs:
    """One rank that rewrites its line, or never ends it; bytes are made when they are read."""

    def __init__(self, unit: bytes, num_chunks: int) -> None:
        self.chunk = unit * (CHUNK_BYTES // len(unit))
        self.num_chunks = num_chunks

    def attempts(self) -> list[int]:
        return [1]

    def ranks(self, attempt: int) -> list[int]:
        return [0]

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        return self.chunk if offset_bytes < self.num_chunks * len(self.chunk) else b""

    def size_bytes(self, attempt: int, rank: int) -> int:
        return self.num_chunks * len(self.chunk)


@pytest.mark.parametrize("unit", [b"step 12345\r", b"step 12345\r\r", b"x" * 11])
def test_a_line_without_end_takes_constant_memory(unit: bytes) -> None:
    tracemalloc.start()
    try:
        lines = sum(1 for _ in read_lines(EndlessLogs(unit, 200), LogQuery()))
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < 12  # of 200 MiB that were read
    assert lines >= 1


def test_what_a_rewritten_line_showed_last_is_its_text() -> None:
    logs = MemoryLogs({(1, 0): b"2026-01-01T00:00:01Z 1%\r2026-01-01T00:00:02Z 100%\r\nnext\n"}, 7)
    found = list(read_lines(logs, LogQuery()))
    assert [line.text for line in found] == ["100%", "next"]
    assert found[0].time == datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00 x", "9999-12-31T23:59:59-12:00 x", "2026-02-30 10:00:00 x"]
)
def test_a_date_at_the_calendars_end_or_beyond_is_text(text: str) -> None:
    assert split_time(text) == (None, text)
