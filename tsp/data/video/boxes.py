"""The boxes of an MP4 or MOV file, for information that FFmpeg does not pass on: appended files, crops, a missing
index.

Damaged sizes end a walk; nothing here raises for a damaged file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAX_INDEX_BYTES = 64 << 20
_ENTRY_HEADER_BYTES = 86
"""Of a picture's sample entry, before the boxes in it."""
_CONTAINERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))


class Box(NamedTuple):
    """A box: its content goes from begin to end."""

    name: bytes
    begin: int
    end: int


def top_level(file: BinaryIO) -> Iterator[Box]:
    """The boxes of a file one after the other; the last may end beyond the file."""
    size_bytes, at = os.fstat(file.fileno()).st_size, 0
    while at + 8 <= size_bytes:
        file.seek(at)
        header = file.read(16)
        length, name = struct.unpack_from(">I4s", header)
        num_header = 8
        if length == 1 and len(header) == 16:
            (length,), num_header = struct.unpack_from(">Q", header, 8), 16
        elif length == 0:  # to the file's end
            length = size_bytes - at
        if length < num_header:
            return
        yield Box(name, at + num_header, at + length)
        at += length


def lacks_index(file: BinaryIO) -> bool:
    """Whether the index is missing or incomplete."""
    index = next((box for box in top_level(file) if box.name == b"moov"), None)
    return index is None or index.end > os.fstat(file.fileno()).st_size


def is_truncated(head: str | Path, size_bytes: int) -> bool:
    """Whether a file of this size is empty, or ends before the last of the boxes that its beginning announces."""
    with open(head, "rb") as file:
        boxes = list(top_level(file))
    return not size_bytes or (bool(boxes) and boxes[0].name == b"ftyp" and boxes[-1].end > size_bytes)


def joined_at(path: str | Path) -> int | None:
    """Where a second file begins in an MP4 or MOV file that was joined by ``cat``: players stop there."""
    with open(path, "rb") as file:
        num_indexes = 0
        second: int | None = None
        for box in top_level(file):
            if box.name == b"ftyp" and box.begin > 16 and second is None:
                second = box.begin - 8
            num_indexes += box.name == b"moov"
    return second if num_indexes > 1 else None


def clean_aperture(path: str | Path) -> tuple[int, int] | None:
    """Width and height to which a ``clap`` box makes players crop the picture; None if it crops nothing."""
    with open(path, "rb") as file:
        index = next((box for box in top_level(file) if box.name == b"moov"), None)
        if index is None or index.end - index.begin > _MAX_INDEX_BYTES:
            return None
        file.seek(index.begin)
        content = file.read(index.end - index.begin)
    for entry in _named(content, 0, len(content), b"stsd"):
        at = entry.begin + 8  # past version, flags, and the number of entries
        whole = struct.unpack_from(">HH", content, at + 32) if at + 36 <= entry.end else (0, 0)
        for box in _named(content, at + _ENTRY_HEADER_BYTES, entry.end, b"clap"):
            if box.begin + 16 <= box.end:
                width, of_width, height, of_height = struct.unpack_from(">4I", content, box.begin)
                if of_width and of_height:
                    size = round(Fraction(width, of_width)), round(Fraction(height, of_height))
                    return size if size != whole and all(size) else None
    return None


def _named(content: bytes, begin: int, end: int, name: bytes) -> Iterator[Box]:
    """All boxes of a name, also those within the containers that lead to a track's description."""
    while begin + 8 <= end:
        length, found = struct.unpack_from(">I4s", content, begin)
        if length < 8 or begin + length > end:
            return
        if found == name:
            yield Box(found, begin + 8, begin + length)
        elif found in _CONTAINERS:
            yield from _named(content, begin + 8, begin + length, name)
        begin += length
