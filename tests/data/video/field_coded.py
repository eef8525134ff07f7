"""H.264 as broadcasters code interlaced pictures, which x264 does not: some frames as two fields (PAFF), others whole.

Every macroblock is raw (I_PCM), so a bitstream is a header and the pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

from tests.ffmpeg import HEIGHT, WIDTH, boards

GOP_FRAMES = 16
_I_PCM = 25
_I_SLICE = 7
_SEQUENCE, _PICTURE, _IDR, _SLICE = 0x67, 0x68, 0x25, 0x21


class _Bits:
    """A bitstream, most significant bit first."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def u(self, number: int, width: int) -> _Bits:
        """A number of so many bits."""
        self.text.append(f"{number:0{width}b}")
        return self

    def ue(self, *numbers: int) -> _Bits:
        """Exp-Golomb codes."""
        for number in numbers:
            digits = f"{number + 1:b}"
            self.text.append("0" * (len(digits) - 1) + digits)
        return self

    def aligned(self, stop: bool = False) -> bytes:
        """The bytes so far, filled up with zeros; ``stop``, behind a one."""
        bits = "".join(self.text) + "1" * stop
        bits += "0" * (-len(bits) % 8)
        return int(bits or "0", 2).to_bytes(len(bits) // 8)


def write_field_coded(path: Path, num_frames: int, *, apart: bool) -> None:
    """Boards at 30 fps, of which two of three are coded as fields.

    Args: apart, a packet for each field, as in transport streams; else both in one, as MP4 wants it.
    """
    frames = list(access_units(num_frames))
    elementary = path.with_suffix(".elementary")
    elementary.write_bytes(b"".join(b"".join(units) for units in frames))
    with av.open(str(elementary), format="h264") as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, units in enumerate(frames):
            for half, content in enumerate(units if apart else [b"".join(units)]):
                packet: Packet = Packet(content)
                packet.stream, packet.time_base = stream, Fraction(1, 60)
                packet.pts = packet.dts = 2 * number + half
                packet.is_keyframe = number % GOP_FRAMES == 0 and half == 0
                packet.duration = 1 if apart and len(units) > 1 else 2
                out.mux(packet)


def access_units(num_frames: int, *, first: int = 0) -> Iterator[list[bytes]]:
    """The pictures of each frame: one, or two fields; the first of a group with the headers."""
    for number, planes in enumerate(_planes(num_frames, first)):
        in_group = number % GOP_FRAMES
        pictures = [None] if number % 3 == 2 else [0, 1]
        units = [_picture(planes, in_group, field) for field in pictures]
        if in_group == 0:
            units[0] = _unit(_SEQUENCE, _sequence()) + _unit(_PICTURE, _parameters()) + units[0]
        yield units


def _planes(num_frames: int, first: int) -> Iterator[Sequence[np.ndarray]]:
    pixels = np.frombuffer(boards(num_frames, first), np.uint8).reshape(num_frames, HEIGHT, WIDTH, 3)
    for image in pixels:
        packed = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p").to_ndarray()
        half = packed[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
        yield packed[:HEIGHT], half[0], half[1]


def _picture(planes: Sequence[np.ndarray], in_group: int, field: int | None) -> bytes:
    """A frame (field None) or one of its fields."""
    is_idr = in_group == 0 and field != 1
    header = _Bits().ue(0, _I_SLICE, 0).u(in_group, 8).u(field is not None, 1)
    if field is not None:
        header.u(field, 1)
        planes = [plane[field::2] for plane in planes]
    if is_idr:
        header.ue(0)
    header.u(2 * in_group + (field or 0), 8)
    header.u(0, 2 if is_idr else 1).ue(0, 1)  # marking; quantiser; no deblocking
    luma, *chroma = planes
    content = bytearray()
    bits = header
    for row in range(0, luma.shape[0], 16):
        for column in range(0, luma.shape[1], 16):
            content += bits.ue(_I_PCM).aligned() + luma[row : row + 16, column : column + 16].tobytes()
            for plane in chroma:
                content += plane[row // 2 : row // 2 + 8, column // 2 : column // 2 + 8].tobytes()
            bits = _Bits()
    return _unit(_IDR if is_idr else _SLICE, bytes(content) + b"\x80")


def _sequence() -> bytes:
    """Main profile, pictures of fields allowed, order by times of eight bits, one reference frame."""
    bits = _Bits().u(77, 8).u(0, 8).u(31, 8).ue(0, 4, 0, 4, 1).u(0, 1)
    bits.ue(WIDTH // 16 - 1, HEIGHT // 32 - 1).u(0, 1).u(0, 1).u(1, 1).u(0, 1)
    return bits.u(0, 1).aligned(stop=True)


def _parameters() -> bytes:
    return _Bits().ue(0, 0).u(0, 2).ue(0, 0, 0).u(0, 3).ue(0, 0, 0).u(1, 1).u(0, 2).aligned(stop=True)


def _unit(header: int, content: bytes) -> bytes:
    """A unit behind a start code; what would look like one within gets a three between."""
    escaped, zeros = bytearray(), 0
    for byte in content:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes((header,)) + bytes(escaped)
