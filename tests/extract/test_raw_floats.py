"""Values copied from file to file in blocks, by file systems that read and write less than they are asked to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tsp.errors import DataError
from tsp.extract import raw_floats
from tsp.extract.raw_floats import RawFloats, begin_writeback, copy_floats, is_finite, write_at


@pytest.fixture
def dest(tmp_path: Path) -> Iterator[int]:
    """An open file to write to."""
    descriptor = os.open(tmp_path / "dest", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def written(dest: int) -> bytes:
    return os.pread(dest, 1 << 20, 0)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_floats, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(raw_floats, "_mine", SimpleNamespace())


@pytest.mark.parametrize("most_bytes", [7, 1 << 20])
@pytest.mark.parametrize("shape", [(1, 1), (10, 25), (50, 10), (83, 9)])
def test_all_values_arrive_however_few_bytes_a_call_moves(
    tmp_path: Path, dest: int, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], most_bytes: int
) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype("<f4")
    (tmp_path / "source").write_bytes(b"head!" + values.tobytes() + b"tail")
    preadv, pwrite = os.preadv, os.pwrite

    def read(file: int, buffers: list[Any], offset: int) -> int:
        return preadv(file, [buffers[0][:most_bytes]], offset)

    def write(file: int, data: Any, offset: int) -> int:
        return pwrite(file, bytes(data)[:most_bytes], offset)

    monkeypatch.setattr(raw_floats, "os", SimpleNamespace(preadv=read, pwrite=write))
    source = RawFloats(tmp_path / "source", 5, shape)
    assert source.num_bytes == values.nbytes
    assert copy_floats(source, dest, offset_bytes=11)
    assert written(dest) == bytes(11) + values.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 249, 250, 499])
def test_one_value_that_is_no_number_is_found_wherever_it_stands(
    tmp_path: Path, dest: int, at: int, bad: float
) -> None:
    values = np.zeros(500, "<f4")
    assert is_finite(values)
    values[at] = bad
    assert not is_finite(values)
    (tmp_path / "source").write_bytes(values.tobytes())
    assert not copy_floats(RawFloats(tmp_path / "source", 0, (500,)), dest, offset_bytes=0)
    assert len(written(dest)) == at // 250 * 1000  # nothing of the block that holds it


@pytest.mark.parametrize("num_bytes", [0, 999, 1000, 1999])
def test_a_file_that_ends_before_its_values_is_named(tmp_path: Path, dest: int, num_bytes: int) -> None:
    (tmp_path / "source").write_bytes(bytes(num_bytes))
    with pytest.raises(DataError, match="source is truncated: it ends before the last of its values"):
        copy_floats(RawFloats(tmp_path / "source", 0, (500,)), dest, offset_bytes=0)


def test_no_values_are_copied_and_written_at_once(tmp_path: Path, dest: int) -> None:
    (tmp_path / "source").touch()
    assert copy_floats(RawFloats(tmp_path / "source", 0, (0, 512)), dest, offset_bytes=10)
    write_at(dest, np.zeros((0, 512), np.float32), 10)
    begin_writeback(dest, 0, 0)
    assert written(dest) == b""
    write_at(dest, np.array([[1.0, 2.0], [3.0, 4.0]], "<f4"), 2)
    assert written(dest) == bytes(2) + np.array([1, 2, 3, 4], "<f4").tobytes()
