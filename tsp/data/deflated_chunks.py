"""Reads the values of an H5 entry in deflated chunks, as in published features.

HDF5 inflates under one lock, so in one thread at a time, and with zlib. Here HDF5 only provides the offsets of the
chunks: every thread reads and inflates a band of chunks (those that hold the same rows) at a time, into a buffer that
fits the processor's cache.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import deflate
import numpy as np

VALUE_BYTES = 4


class Chunk(NamedTuple):
    """The position of a chunk, and the filters of its float32 values, in this order."""

    offset: tuple[int, ...]
    begin_bytes: int
    size_bytes: int
    is_shuffled: bool
    is_deflated: bool


class DeflatedChunks:
    """The chunks of one entry."""

    def __init__(
        self, path: str | Path, shape: tuple[int, ...], chunk_shape: tuple[int, ...], chunks: Sequence[Chunk]
    ) -> None:
        """Check that they are all there.

        Args: shape, of the entry, at least one dimension.
        Raises: ValueError if the index of the chunks is damaged.
        """
        self._path, self._shape, self._chunk_shape = path, shape, chunk_shape
        self._num_bytes = VALUE_BYTES * math.prod(chunk_shape)
        self._chunks = sorted(chunks)
        wanted = itertools.product(*map(range, itertools.repeat(0), shape, chunk_shape))
        if [chunk.offset for chunk in self._chunks] != list(wanted):
            raise ValueError("its index of chunks is damaged")
        columns = itertools.product(*map(range, itertools.repeat(0), shape[1:], chunk_shape[1:]))
        # Of each chunk of a band: all of its rows, some of the columns.
        self._parts = [(slice(None), *map(slice, at, np.add(at, chunk_shape[1:]))) for at in columns]

    def values(self) -> np.ndarray:
        """All of them.

        Raises: ValueError if a chunk is damaged.
        """
        values = np.empty(self._shape, np.float32)
        for _ in self.bands(values):
            pass
        return values

    def bands(self, values: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The values in pieces of whole rows, from the first to the last.

        Args: values, where to write them; else each piece is overwritten by the next.
        Raises: ValueError if a chunk is damaged.
        """
        height, num_rows = self._chunk_shape[0], self._shape[0]
        buffer = np.empty((min(height, num_rows), *self._shape[1:]), np.float32) if values is None else values
        with open(self._path, "rb", buffering=0) as file:
            for row, chunks in itertools.groupby(self._chunks, lambda chunk: chunk.offset[0]):
                begin = 0 if values is None else row
                band = buffer[begin : begin + min(height, num_rows - row)]
                self._fill(band, file.fileno(), list(chunks))
                yield band

    def _fill(self, band: np.ndarray, file: int, chunks: Sequence[Chunk]) -> None:
        for chunk, stored, where in zip(chunks, _stored(file, chunks), self._parts, strict=True):
            part = band[where]
            inflated = self._inflated(chunk, stored)
            # Chunks at an edge reach beyond it.
            part[...] = inflated if part.shape == self._chunk_shape else inflated[tuple(map(slice, part.shape))]

    def _inflated(self, chunk: Chunk, stored: bytes) -> np.ndarray:
        raw: bytes | bytearray = stored
        if chunk.is_deflated:
            try:
                raw = deflate.zlib_decompress(stored, self._num_bytes)
            except deflate.DeflateError as error:
                raise ValueError(f"the chunk at {list(chunk.offset)} is damaged: it cannot be inflated") from error
        if len(raw) != self._num_bytes:
            raise ValueError(f"the chunk at {list(chunk.offset)} is damaged: it contains {len(raw)} bytes")
        if chunk.is_shuffled:
            raw = np.frombuffer(raw, np.uint8).reshape(VALUE_BYTES, -1).T.tobytes()
        return np.frombuffer(raw, "<f4").reshape(self._chunk_shape)


def _stored(file: int, chunks: Sequence[Chunk]) -> Iterator[bytes]:
    """The bytes of each chunk. A writer lays the chunks of a band side by side, so that one read gets them all."""
    begin = min(chunk.begin_bytes for chunk in chunks)
    span_bytes = max(chunk.begin_bytes + chunk.size_bytes for chunk in chunks) - begin
    if span_bytes > 2 * sum(chunk.size_bytes for chunk in chunks):
        for chunk in chunks:
            yield os.pread(file, chunk.size_bytes, chunk.begin_bytes)
        return
    span = os.pread(file, span_bytes, begin)
    for chunk in chunks:
        at = chunk.begin_bytes - begin
        yield span[at : at + chunk.size_bytes]
