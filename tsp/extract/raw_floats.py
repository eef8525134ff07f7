"""Copies stored float32 values from file to file in small blocks, and checks each block.

A conversion is mostly memory traffic. Reading a video into an array, checking it and writing it moves its bytes through
memory three times, into pages that the kernel must first allocate. A block that fits the processor's cache is read,
checked and written while it is in the cache, which takes little longer than a copy by the kernel.
"""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tsp.errors import DataError

BLOCK_BYTES = 512 << 10
_mine = threading.local()


class RawFloats(NamedTuple):
    """Little-endian float32 values that are stored in a file as in memory, rows first."""

    path: Path
    offset_bytes: int
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Of all values."""
        return 4 * int(np.prod(self.shape, dtype=np.int64))


def copy_floats(source: RawFloats, dest: int, *, offset_bytes: int) -> bool:
    """Copy values to an offset of an open file; returns whether all are finite; if not, the copy is incomplete.

    Raises: DataError if the source is shorter than its values.
    """
    buffer = _buffer()
    with open(source.path, "rb", buffering=0) as file:
        done, total = 0, source.num_bytes
        while done < total:
            block = buffer[: min(BLOCK_BYTES, total - done)]
            _fill(file.fileno(), block, source, done)
            values = block.view("<f4")
            if not is_finite(values):
                return False
            write_at(dest, block, offset_bytes + done)
            done += len(block)
    return True


def _buffer() -> np.ndarray:
    """This thread's block, whose pages are made once."""
    if not hasattr(_mine, "buffer"):
        _mine.buffer = np.empty(BLOCK_BYTES, np.uint8)
    found: np.ndarray = _mine.buffer
    return found


def _fill(file: int, block: np.ndarray, source: RawFloats, done: int) -> None:
    filled = 0
    while filled < len(block):
        count = os.preadv(file, [block[filled:].data], source.offset_bytes + done + filled)
        if not count:
            raise DataError(f"{source.path} is truncated: it ends before the last of its values")
        filled += count


def is_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite, without temporary memory: with NaN, minimum and maximum are NaN."""
    return math.isfinite(values.min()) and math.isfinite(values.max())


def write_at(file: int, values: np.ndarray, offset_bytes: int) -> None:
    """Write a contiguous array to an offset of an open file."""
    left = values.reshape(-1).view(np.uint8)
    while len(left):
        count = os.pwrite(file, left.data, offset_bytes)
        left, offset_bytes = left[count:], offset_bytes + count


def begin_writeback(file: int, offset_bytes: int, num_bytes: int) -> None:
    """Make the kernel start to write a part of a file to the disk now, in the background, rather than everything at the
    end."""
    # The only such call in Python: Linux starts to write pages that are declared unneeded. macOS does not have it.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset_bytes, num_bytes, os.POSIX_FADV_DONTNEED)
