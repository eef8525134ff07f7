"""The hidden file of a download: gone on with, brought to the disk as it grows, published only if it is still ours."""

import contextlib
import os
from pathlib import Path

import pytest

from tsp.store import part
from tsp.store.owner import forget_owner, new_owner
from tsp.store.part import Part


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "best.pth"


def left_behind(target: Path, version: str, data: bytes) -> Path:
    """A part of a process of this machine that is gone."""
    owner = new_owner()
    forget_owner(owner)
    path = target.with_name(f".{target.name}.{version}.{owner}.part")
    path.write_bytes(data)
    return path


def test_what_is_written_is_read_back_in_order_and_published_under_the_name(target: Path) -> None:
    with Part.open(target, "v1", may_resume=True) as found:
        found.write(b"ab")
        found.write(memoryview(b"cd"))
        assert (found.size_bytes, b"".join(found.blocks())) == (4, b"abcd")
        assert found.publish()
    assert os.listdir(target.parent) == ["best.pth"]
    assert target.read_bytes() == b"abcd"


def test_the_largest_part_of_the_same_version_is_gone_on_with_and_the_others_are_removed(target: Path) -> None:
    for version, data in (("v1", b"abc"), ("v1", b"abcdef"), ("v2", b"another version"), ("v1", b"a")):
        left_behind(target, version, data)
    with Part.open(target, "v1", may_resume=True) as found:
        assert (found.size_bytes, b"".join(found.blocks())) == (6, b"abcdef")
        assert len(os.listdir(target.parent)) == 1
        found.write(b"gh")
        assert found.publish()
    assert target.read_bytes() == b"abcdefgh"


def test_nothing_is_gone_on_with_where_what_is_there_is_not_to_be_trusted(target: Path) -> None:
    left_behind(target, "v1", b"doubtful")
    with Part.open(target, "v1", may_resume=False) as found:
        assert (found.size_bytes, len(os.listdir(target.parent))) == (0, 1)


def test_an_emptied_part_starts_anew(target: Path) -> None:
    left_behind(target, "v1", b"too long")
    with Part.open(target, "v1", may_resume=True) as found:
        found.restart()
        found.write(b"new")
        assert found.publish()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(("data", "is_kept"), [(b"", False), (b"x", True)])
def test_a_part_that_breaks_off_stays_unless_it_is_empty(target: Path, data: bytes, is_kept: bool) -> None:
    with contextlib.suppress(KeyError), Part.open(target, "v1", may_resume=True) as found:
        found.write(data)
        raise KeyError
    assert len(os.listdir(target.parent)) == is_kept


def test_a_part_that_somebody_removed_is_not_published(target: Path) -> None:
    with Part.open(target, "v1", may_resume=True) as found:
        found.write(b"mine")
        found.path.unlink()
        assert found.publish() is False
    assert not target.exists()


@pytest.mark.parametrize(("sync", "resumed_bytes", "expected"), [(True, 0, 3), (False, 0, 0), (True, 95, 3)])
def test_the_disk_is_set_to_work_each_time_so_much_is_new(target, monkeypatch, sync, resumed_bytes, expected) -> None:
    """Before the end, where a download would otherwise wait for all of it at once."""
    begun: list[int] = []
    monkeypatch.setattr(part, "WRITE_BACK_BYTES", 100)
    monkeypatch.setattr(Part, "_start_write_back", lambda self: begun.append(self.size_bytes))
    if resumed_bytes:
        left_behind(target, "v1", b"x" * resumed_bytes)
    with Part.open(target, "v1", may_resume=True, sync=sync) as found:
        for _ in range(35):
            found.write(b"0123456789")
    assert [size - resumed_bytes for size in begun] == [100, 200, 300][:expected]


@pytest.mark.parametrize("sync", [True, False])
def test_a_part_reaches_the_disk_before_it_takes_the_name_if_it_is_to(target, monkeypatch, sync) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(part.os, "fsync", lambda _: synced.append(target.exists()))
    with Part.open(target, "v1", may_resume=True, sync=sync) as found:
        found.write(b"x")
        assert found.publish()
    assert synced == ([False] if sync else [])


def test_a_write_back_is_waited_for_before_the_file_is_closed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(part, "WRITE_BACK_BYTES", 1)
    monkeypatch.setattr(part.os, "fdatasync", lambda handle: synced.append(os.fstat(handle).st_size))
    with Part.open(target, "v1", may_resume=True) as found:
        found.write(b"0123456789")
    assert synced == [10]


@pytest.mark.parametrize("harm", [b"abcde", b"abc", b""])
def test_a_part_that_another_process_wrote_to_or_cut_is_not_published(target: Path, harm: bytes) -> None:
    with Part.open(target, "v1", may_resume=True) as found:
        found.write(b"abcd")
        assert list(found.blocks())
        found.path.write_bytes(harm)
        assert not found.publish()
    assert not target.exists()


def test_what_is_no_part_of_the_file_stays(target: Path) -> None:
    others = [".best.pth.notes", ".other.pth.v1.x.part", "best.pth.part"]
    for name in others:
        target.with_name(name).touch()
    left_behind(target, "v2", b"old")
    with Part.open(target, "v1", may_resume=True):
        pass
    assert sorted(set(os.listdir(target.parent)) & set(others)) == sorted(others)
