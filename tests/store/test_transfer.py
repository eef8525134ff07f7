"""Downloads from sources that break off, change, or lie: what is asked for again, and what is refused."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tsp.errors import StoreError, StoreUnreachableError
from tsp.store import transfer
from tsp.store.retry import RetryPolicy
from tsp.store.transfer import (
    ChangedSourceError,
    InterruptedTransferError,
    Source,
    download,
    download_latest,
    matches,
    persistent_chunks,
    sha256_of,
)

CONTENT = bytes(range(250)) * 4
DIGEST = hashlib.sha256(CONTENT).hexdigest()
THRICE = RetryPolicy(attempts=3, first_delay_sec=0.0)


class Origin:
    """Something to download; each number in ``cuts`` is how many bytes a request gives before it breaks off."""

    def __init__(self, content: bytes = CONTENT, *, cuts: tuple[int, ...] = (), says_size: bool = True) -> None:
        self.content, self.cuts, self.size = content, list(cuts), len(content) if says_size else None
        self.asked: list[int] = []
        self.ranges: list[tuple[int, int]] = []

    def chunks(self, offset: int) -> Iterator[bytes]:
        self.asked.append(offset)
        left = self.cuts.pop(0) if self.cuts else None
        data = self.content[offset:] if left is None else self.content[offset : offset + left]
        yield from (data[at : at + 100] for at in range(0, len(data), 100))
        if left is not None:
            raise InterruptedTransferError

    def read_range(self, offset: int, into: memoryview) -> None:
        self.ranges.append((offset, len(into)))
        into[:] = self.content[offset : offset + len(into)]

    def source(self, *, has_ranges: bool = False) -> Source:
        reading = self.read_range if has_ranges else None
        return Source(address="s3://b/a", size_bytes=self.size, version="v", chunks=self.chunks, range=reading)


@pytest.mark.parametrize("says_size", [True, False])
def test_a_file_arrives_whole_and_tells_how_far_it_is(tmp_path: Path, says_size: bool) -> None:
    path, seen = tmp_path / "new" / "a", list[tuple[int, int]]()
    found = download(Origin(says_size=says_size).source(), path, progress=lambda *done: seen.append(done))
    assert (found, path.read_bytes()) == (DIGEST, CONTENT)
    assert seen == [(done, 1000 if says_size else 0) for done in range(100, 1001, 100)]


def test_what_broke_off_is_asked_for_from_where_it_stopped(tmp_path: Path) -> None:
    origin = Origin(cuts=(300, 1, 0, 250))
    download(origin.source(), tmp_path / "a", sha256=DIGEST, retry=THRICE)
    assert origin.asked == [0, 300, 301, 301, 551]


@pytest.mark.parametrize(
    ("cuts", "asked"),
    [((0,) * 9, [0, 0, 0]), ((5, *(0,) * 9), [0, 5, 5]), ((5, 0, 5, *(0,) * 9), [0, 5, 5, 10, 10])],
)
def test_a_source_that_gives_nothing_more_is_given_up_after_a_few_tries(
    cuts: tuple[int, ...], asked: list[int]
) -> None:
    """Bytes start the patience anew: a server that sends data can be reached."""
    origin = Origin(cuts=cuts)
    with pytest.raises(StoreUnreachableError, match="the connection to s3://b/a kept breaking"):
        list(persistent_chunks(origin.source(), 0, retry=THRICE))
    assert origin.asked == asked


def test_a_short_answer_without_an_error_is_asked_for_again() -> None:
    origin, found = Origin(), b""
    origin.content = CONTENT[:400]
    for chunk in persistent_chunks(origin.source(), 0, retry=THRICE):
        found += chunk
        if len(found) == 400:
            origin.content = CONTENT
    assert found == CONTENT
    assert origin.asked == [0, 400]


def test_a_source_that_is_longer_than_it_said_has_changed() -> None:
    origin = Origin()
    origin.size = 950
    with pytest.raises(ChangedSourceError):
        list(persistent_chunks(origin.source(), 0, retry=THRICE))
    assert list(persistent_chunks(Origin().source(), 1000, retry=THRICE)) == []


class CountingPart:
    """Takes bytes and keeps none."""

    def __init__(self, size_bytes: int = 0) -> None:
        self.size_bytes, self.num_restarts = size_bytes, 0

    def blocks(self) -> Iterator[bytes]:
        yield bytes(self.size_bytes)

    def write(self, data: memoryview) -> None:
        self.size_bytes += len(data)

    def restart(self) -> None:
        self.size_bytes, self.num_restarts = 0, self.num_restarts + 1


MIB = 1 << 20


@pytest.mark.parametrize(
    ("there", "size", "ranges"),
    [
        (0, 16 * MIB, []),
        (0, 16 * MIB + 1, [(0, 8 * MIB), (8 * MIB, 8 * MIB), (16 * MIB, 1)]),
        (2 * MIB, 18 * MIB, []),
        (2 * MIB, 18 * MIB + 5, [(2 * MIB, 8 * MIB), (10 * MIB, 8 * MIB), (18 * MIB, 5)]),
        (30 * MIB, 20 * MIB, [(0, 8 * MIB), (8 * MIB, 8 * MIB), (16 * MIB, 4 * MIB)]),
    ],
)
def test_more_than_16_mebibytes_are_read_in_ranges_of_8(there: int, size: int, ranges: list[tuple[int, int]]) -> None:
    part: Any = CountingPart(there)
    asked: list[tuple[int, int]] = []
    source = Source(
        address="a",
        size_bytes=size,
        version="v",
        chunks=lambda offset: iter([memoryview(bytes(size - offset))]),
        range=lambda offset, into: asked.append((offset, len(into))),
    )
    assert transfer._fill(part, source, None, THRICE) == hashlib.sha256(bytes(size)).hexdigest()
    assert (sorted(asked), part.size_bytes) == (ranges, size)
    assert part.num_restarts == (there > size)


@pytest.mark.parametrize("size", [129, 640, 1000])
def test_ranges_are_put_together_in_order_and_only_a_few_are_asked_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(transfer, "RANGE_BYTES", 64)
    monkeypatch.setattr(transfer, "PARALLEL_FROM_BYTES", 128)
    origin, ahead = Origin(CONTENT[:size]), list[int]()
    digest = hashlib.sha256(CONTENT[:size]).hexdigest()
    source = origin.source(has_ranges=True)
    download(
        source, tmp_path / "a", sha256=digest, progress=lambda done, _: ahead.append(len(origin.ranges) * 64 - done)
    )
    assert (tmp_path / "a").read_bytes() == CONTENT[:size]
    assert origin.asked == []
    assert max(ahead) <= transfer.PARALLEL_RANGES * 64


def test_a_digest_that_differs_is_believed_after_a_second_download(tmp_path: Path) -> None:
    origin = Origin()
    with pytest.raises(StoreError, match=f"s3://b/a is damaged: its SHA-256 is {DIGEST}, expected {'0' * 64}; delete"):
        download(origin.source(), tmp_path / "a", sha256="0" * 64)
    assert origin.asked == [0, 0]
    with pytest.raises(StoreError, match=r"expected 00000000\.\.\.; delete"):
        download(origin.source(), tmp_path / "a", sha256="0" * 8)
    assert list(tmp_path.iterdir()) == []
    download(origin.source(), tmp_path / "a", sha256=DIGEST[:8].upper())


@pytest.mark.parametrize(("changes", "is_read"), [(0, True), (2, True), (3, False)])
def test_a_source_that_is_replaced_is_looked_at_again_three_times_in_all(
    tmp_path: Path, changes: int, is_read: bool
) -> None:
    left, found = [None] * changes, list[int]()

    def find() -> Source:
        origin = Origin()
        if left:
            left.pop()
            origin.size = 999
        found.append(1)
        return origin.source()

    if is_read:
        download_latest(find, tmp_path / "a", sha256=DIGEST)
    else:
        with pytest.raises(StoreError, match="s3://b/a is replaced more often than it can be read"):
            download_latest(find, tmp_path / "a", sha256=DIGEST)
    assert len(found) == min(changes + 1, 3)
    assert (tmp_path / "a").exists() is is_read


@pytest.mark.parametrize(("sync", "synced"), [(True, 1), (False, 0)])
def test_a_download_is_synced_unless_it_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, synced: int
) -> None:
    done: list[int] = []
    monkeypatch.setattr("tsp.store.part.os", SimpleNamespace(**{**vars(os), "fsync": done.append}))
    for get in (download, lambda *args, **kwargs: download_latest(Origin().source, *args[1:], **kwargs)):
        get(Origin().source(), tmp_path / "a", sync=sync)
    assert len(done) == 2 * synced


def test_a_digest_may_be_known_by_its_first_digits_in_either_case(tmp_path: Path) -> None:
    assert matches("abc0", "ABC")
    assert not matches("abc0", "bc0")
    with pytest.raises(StoreError, match=f"cannot read {tmp_path / 'none'}: No such file"):
        sha256_of(tmp_path / "none")
