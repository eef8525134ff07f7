"""Whether a file ends within one of the units that its container consists of, for containers that claim no length.

Damaged sizes end a walk, and then a file counts as whole: nothing here raises for a damaged file, or accuses one that
has something else behind its last unit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Set
from typing import BinaryIO

from tsp.data.video.matroska import CLUSTER, SEGMENT, element_head

_OGG_HEADER_BYTES = 27
_OGG_LONGEST_PAGE = _OGG_HEADER_BYTES + 255 + 255 * 255
_GIF_HEADER_BYTES = 13
_IVF_FRAME_HEADER_BYTES = 12
_MXF_KEY = b"\x06\x0e\x2b\x34"
_MXF_KEY_BYTES = 16
_EBML_HEAD_BYTES = 12


def ends_within(path: str, formats: Set[str]) -> str:
    """The unit of the container within which the file ends, such as "a page"; empty if it ends behind one.

    Args: formats, the names that FFmpeg has for the container.
    """
    for name, (unit, end_of) in _UNITS.items():
        if name in formats:
            with open(path, "rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                return unit if end_of(file, size_bytes) > size_bytes else ""
    return ""


def _ogg_end(file: BinaryIO, size_bytes: int) -> int:
    """Where the last page ends."""
    begin = max(0, size_bytes - 2 * _OGG_LONGEST_PAGE)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(b"OggS\0")
    num_segments = tail[at + _OGG_HEADER_BYTES - 1] if 0 <= at <= len(tail) - _OGG_HEADER_BYTES else None
    if num_segments is None:
        return 0
    sizes = tail[at + _OGG_HEADER_BYTES : at + _OGG_HEADER_BYTES + num_segments]
    return begin + at + _OGG_HEADER_BYTES + num_segments + sum(sizes)


def _gif_end(file: BinaryIO, size_bytes: int) -> int:
    """Where the trailer ends, or the block that the file lacks a part of."""
    header = file.read(_GIF_HEADER_BYTES)
    if len(header) < _GIF_HEADER_BYTES:
        return 0
    at = _GIF_HEADER_BYTES + _gif_colours(header[10])
    while True:
        file.seek(at)
        head = file.read(10)
        kind = head[:1]
        if kind == b"!":
            at += 2
        elif kind == b"," and len(head) == 10:
            at += 11 + _gif_colours(head[9])
        else:
            return at + (len(head) + 1 if kind == b"," else 0)
        while True:
            file.seek(at)
            length = file.read(1)
            if not length:
                return at + 1
            at += 1 + length[0]
            if not length[0]:
                break


def _gif_colours(flags: int) -> int:
    """Bytes of the table of colours that the flags of a screen or picture announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _ivf_end(file: BinaryIO, size_bytes: int) -> int:
    """Where the last frame ends."""
    at = int.from_bytes(file.read(8)[6:8], "little")
    while at < size_bytes:
        file.seek(at)
        head = file.read(_IVF_FRAME_HEADER_BYTES)
        if len(head) < _IVF_FRAME_HEADER_BYTES:
            return at
        at += _IVF_FRAME_HEADER_BYTES + int.from_bytes(head[:4], "little")
    return at


def _mxf_end(file: BinaryIO, size_bytes: int) -> int:
    """Where the last value ends."""
    at = 0
    while at < size_bytes:  # no system seeks as far as a damaged size may lead
        file.seek(at)
        head = file.read(_MXF_KEY_BYTES + 9)
        if not head.startswith(_MXF_KEY) or len(head) <= _MXF_KEY_BYTES:
            return at
        size, begin = head[_MXF_KEY_BYTES], _MXF_KEY_BYTES + 1
        if size & 0x80:
            width = size & 0x7F
            size, begin = int.from_bytes(head[begin : begin + width]), begin + width
        at += begin + size
    return at


def _matroska_end(file: BinaryIO, size_bytes: int) -> int:
    """Where the last element ends that has no others in it."""
    at = 0
    while at < size_bytes:
        file.seek(at)
        number, size, begin = element_head(file.read(_EBML_HEAD_BYTES))
        if number < 0 or size < 0:
            return at
        at += begin if number in (SEGMENT, CLUSTER) else begin + size
    return at


_UNITS: Mapping[str, tuple[str, Callable[[BinaryIO, int], int]]] = {
    "ogg": ("a page", _ogg_end),
    "gif": ("a picture", _gif_end),
    "ivf": ("a frame", _ivf_end),
    "mxf": ("a value", _mxf_end),
    "matroska": ("an element", _matroska_end),
}
