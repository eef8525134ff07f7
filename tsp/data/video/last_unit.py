"""Whether a file ends within one of the units that its container consists of, for containers that claim no length.

Damaged sizes end a walk, and then a file counts as whole: nothing here raises for a damaged file, or accuses one that
has something else behind its last unit.
"""

from __future__ import annotations

import os
import re
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
_Y4M_LONGEST_HEADER = 256
_Y4M_CHROMA = re.compile(rb"C(420|411|422|444|mono)(alpha)?[a-z]*?p?(\d*)\Z")
_Y4M_CHROMA_STEPS = {b"420": (2, 2), b"411": (4, 1), b"422": (2, 1), b"444": (1, 1)}
"""Columns and rows of a picture that share one value of each colour."""
_DV_SEQUENCE_BYTES = 12_000
_DV_KIND_AT = 80 * 5 + 48 + 3
_DV_CHANNELS = {0x00: 1, 0x04: 2, 0x14: 4, 0x18: 2}
"""By the kind of signal: DV25, DV50, DVCPRO HD of 1080 lines, of 720 lines."""
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_JPEG_LONGEST_TAIL = 1 << 24


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
            return at + (_IVF_FRAME_HEADER_BYTES if any(head) else 0)
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


def _y4m_end(file: BinaryIO, size_bytes: int) -> int:
    """Where the last frame ends."""
    header = file.read(_Y4M_LONGEST_HEADER).partition(b"\n")[0]
    at, frame_bytes = len(header) + 1, _y4m_frame_bytes(header)
    while frame_bytes and at < size_bytes:
        file.seek(at)
        head = file.readline(_Y4M_LONGEST_HEADER)
        if not b"FRAME".startswith(head[:5]):
            return at
        at += max(len(head), len(b"FRAME\n")) + frame_bytes
    return at if frame_bytes else 0


def _y4m_frame_bytes(header: bytes) -> int:
    """Bytes of a frame without its own header; 0 if the file's header does not say."""
    words = {word[:1]: word for word in header.split(b" ")[1:]}
    width, height = (words.get(name, b"")[1:] for name in (b"W", b"H"))
    chroma = _Y4M_CHROMA.match(words.get(b"C", b"C420"))
    if not (header.startswith(b"YUV4MPEG2 ") and chroma and width.isdigit() and height.isdigit()):
        return 0
    kind, alpha, bits = chroma.groups()
    num_columns, num_rows = int(width), int(height)
    num_values = num_columns * num_rows * (2 if alpha else 1)
    if kind in _Y4M_CHROMA_STEPS:
        columns, rows = _Y4M_CHROMA_STEPS[kind]
        num_values += 2 * -(-num_columns // columns) * -(-num_rows // rows)
    return num_values * (2 if int(bits or 8) > 8 else 1)


def _dv_end(file: BinaryIO, size_bytes: int) -> int:
    """Where the last frame ends that begins as the first one does."""
    head = file.read(_DV_KIND_AT + 1)
    if len(head) <= _DV_KIND_AT:
        return 0
    num_channels = _DV_CHANNELS.get(head[_DV_KIND_AT] & 0x1F, 1)
    frame_bytes = _DV_SEQUENCE_BYTES * (12 if head[3] & 0x80 else 10) * num_channels
    at = size_bytes // frame_bytes * frame_bytes
    file.seek(at)
    begin = file.read(4)
    return at + (frame_bytes if begin and head.startswith(begin) else 0)


def _mjpeg_end(file: BinaryIO, size_bytes: int) -> int:
    """One byte behind the file if its last picture begins in it and does not end."""
    file.seek(max(0, size_bytes - _JPEG_LONGEST_TAIL))
    before, _, rest = file.read().rpartition(_JPEG_END)
    has_begun = _JPEG_START in rest or (bool(before) and _JPEG_START.startswith(rest))
    return size_bytes + (bool(rest) and has_begun)


_UNITS: Mapping[str, tuple[str, Callable[[BinaryIO, int], int]]] = {
    "ogg": ("a page", _ogg_end),
    "gif": ("a picture", _gif_end),
    "ivf": ("a frame", _ivf_end),
    "mxf": ("a value", _mxf_end),
    "matroska": ("an element", _matroska_end),
    "yuv4mpegpipe": ("a frame", _y4m_end),
    "dv": ("a frame", _dv_end),
    "mjpeg": ("a picture", _mjpeg_end),
}
