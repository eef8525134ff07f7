"""How a file tells players to rotate and flip the picture."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Literal

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

Turn = Literal["upright", "hflip", "vflip", "half turn", "clockwise", "counterclockwise", "transpose", "antitranspose"]

FILTERS: Mapping[Turn, tuple[tuple[str, str | None], ...]] = {
    "upright": (),
    "hflip": (("hflip", None),),
    "vflip": (("vflip", None),),
    "half turn": (("hflip", None), ("vflip", None)),
    "clockwise": (("transpose", "clock"),),
    "counterclockwise": (("transpose", "cclock"),),
    "transpose": (("transpose", "cclock_flip"),),
    "antitranspose": (("transpose", "clock_flip"),),
}
"""FFmpeg's filters that do what a player does."""

CROSSED: frozenset[Turn] = frozenset({"clockwise", "counterclockwise", "transpose", "antitranspose"})
"""Those in which width and height change places."""

_SIGNS: Mapping[tuple[int, int, int, int], Turn] = {
    (1, 0, 0, 1): "upright",
    (-1, 0, 0, 1): "hflip",
    (1, 0, 0, -1): "vflip",
    (-1, 0, 0, -1): "half turn",
    (0, 1, -1, 0): "clockwise",
    (0, -1, 1, 0): "counterclockwise",
    (0, 1, 1, 0): "transpose",
    (0, -1, -1, 0): "antitranspose",
}
"""By the signs of the matrix's a, b, c, d: a pixel at (x, y) goes to (a x + c y, b x + d y), y pointing down."""


def _unlisted(cls: type[Type], value: Any) -> Type:
    """A member of no name."""
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNLISTED_{value}", value
    return member


# PyAV 18 cannot list what comes with a frame if FFmpeg knows a type that PyAV does not, such as EXIF in the pictures of
# cameras that record MJPEG (https://github.com/PyAV-Org/PyAV/pull/2392).
Type._missing_ = classmethod(_unlisted)  # type: ignore[assignment,method-assign]


def turn_of(frame: VideoFrame) -> Turn:
    """How a player rotates or flips a file's frames; the nearest of the eight ways for odd angles."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return "upright"
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    kept = (a, 0, 0, d) if straight >= crossed else (0, b, c, 0)
    return _SIGNS.get(tuple(_sign(value) for value in kept), "upright")  # type: ignore[arg-type]


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
