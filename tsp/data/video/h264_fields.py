"""H.264 with a packet for each field, as in broadcasts: two packets per frame.

FFmpeg's packets do not show it, but their slice headers do. Only streams that may contain fields are examined.
Source: ITU-T H.264, 7.3.2.1 (sequence parameters) and 7.3.3 (slice header).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_START = re.compile(rb"\x00\x00\x01")
_SLICE, _PARTITION, _IDR, _SEQUENCE = 1, 2, 5, 7
_HEADER_BYTES = 48
"""Of a slice: more than what stands before the mark of a field."""
_SEQUENCE_BYTES = 1024
_HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))


class _Bits:
    """Bits of a unit, most significant first; beyond the end an IndexError."""

    def __init__(self, unit: bytes) -> None:
        content = unit.replace(b"\0\0\3", b"\0\0")
        self._bits = "".join(f"{byte:08b}" for byte in content)
        self._at = 0

    def u(self, width: int) -> int:
        """A number with this many bits."""
        text = self._bits[self._at : self._at + width]
        if len(text) < width:
            raise IndexError
        self._at += width
        return int(text, 2) if width else 0

    def ue(self) -> int:
        """An Exp-Golomb code."""
        one = self._bits.index("1", self._at) if "1" in self._bits[self._at :] else len(self._bits)
        width = one - self._at
        self._at = one
        return self.u(width + 1) - 1


@dataclass(frozen=True, slots=True)
class _Sequence:
    """The parameters of a sequence that determine how slices begin."""

    frame_num_bits: int
    has_planes: bool
    may_hold_fields: bool


class FieldPairs:
    """Tells which packets, in the order of the file, hold the second field of the frame before."""

    def __init__(self, sequence: _Sequence, length_bytes: int) -> None:
        self._sequence = sequence
        self._length_bytes = length_bytes
        self._first: tuple[int, int] | None = None
        """Number of the frame and parity of a field that waits for its second."""

    @classmethod
    def of(cls, codec: str, extradata: bytes | None) -> FieldPairs | None:
        """None for streams without fields, which are nearly all files."""
        if codec != "h264" or not extradata:
            return None
        length_bytes = (extradata[4] & 3) + 1 if extradata[0] == 1 and len(extradata) > 6 else 0
        # Parameters are few: in an MP4 file's own form the first follows its length.
        units = [extradata[8:]] if length_bytes else list(_units(extradata, 0))
        for unit in units:
            if unit and unit[0] & 31 == _SEQUENCE:
                try:
                    sequence = _sequence(unit[1:_SEQUENCE_BYTES])
                except (IndexError, ValueError):
                    return None
                return cls(sequence, length_bytes) if sequence.may_hold_fields else None
        return None

    def is_second(self, packet: bytes) -> bool:
        """Whether the packet completes the frame of the one before, and so has none of its own."""
        fields = set(self._fields(packet))
        before, self._first = self._first, None
        if len(fields) != 1:
            return False  # frames, or both fields in one packet
        frame_num, parity = fields.pop()
        if parity < 0:
            return False
        if before is not None and before == (frame_num, 1 - parity):
            return True
        self._first = frame_num, parity
        return False

    def _fields(self, packet: bytes) -> Iterator[tuple[int, int]]:
        """Frame number and parity of each slice; parity -1 where it is of a whole frame."""
        for unit in _units(packet, self._length_bytes):
            if unit and unit[0] & 31 in (_SLICE, _PARTITION, _IDR):
                try:
                    yield self._field(_Bits(unit[1:_HEADER_BYTES]))
                except IndexError:
                    continue

    def _field(self, bits: _Bits) -> tuple[int, int]:
        bits.ue()
        bits.ue()
        bits.ue()
        if self._sequence.has_planes:
            bits.u(2)
        frame_num = bits.u(self._sequence.frame_num_bits)
        return frame_num, bits.u(1) if bits.u(1) else -1


def _units(content: bytes, length_bytes: int) -> Iterator[bytes]:
    """The units of a packet: behind their lengths, or behind start codes (no length bytes)."""
    if not length_bytes:
        starts = [match.end() for match in _START.finditer(content)]
        for begin, end in pairwise([*starts, len(content) + 3]):
            yield content[begin : end - 3]
        return
    at = 0
    while at + length_bytes < len(content):
        length = int.from_bytes(content[at : at + length_bytes])
        yield content[at + length_bytes : at + length_bytes + length]
        at += length_bytes + length


def _sequence(unit: bytes) -> _Sequence:
    bits = _Bits(unit)
    profile, has_planes = bits.u(8), False
    bits.u(16)
    bits.ue()
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        has_planes = chroma == 3 and bool(bits.u(1))
        bits.ue()
        bits.ue()
        bits.u(1)
        if bits.u(1):
            for number in range(12 if chroma == 3 else 8):
                if bits.u(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    frame_num_bits = bits.ue() + 4
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.u(1)
        bits.ue()
        bits.ue()
        for _ in range(bits.ue()):
            bits.ue()
    bits.ue()
    bits.u(1)
    bits.ue()
    bits.ue()
    return _Sequence(frame_num_bits, has_planes, not bits.u(1))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = upcoming = 8
    for _ in range(size):
        if upcoming:
            code = bits.ue()
            upcoming = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        last = upcoming or last
