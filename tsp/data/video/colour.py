"""From a decoder's pixels to RGB as a player shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av.error
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from tsp.data.video.errors import VideoError, reason_of

_NOT_CONVERTED = {
    8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "SMPTE 2085", 12: "derived from chromaticity",
    13: "derived from chromaticity, with constant luminance", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro",
}  # fmt: skip
"""Matrices, by their numbers in H.273, from which FFmpeg makes no RGB."""
STANDARDISED = frozenset({10})
"""Those among them that ``standardize`` takes for their relatives."""


def full_range(frame: VideoFrame) -> ColorRange | None:
    """The mark of a frame whose levels go from 0 to 255, where FFmpeg does not see it; None: it needs no telling.

    It takes the usual 16 to 235 for granted and reads the matrix off the frame, but the range only off the pixel
    formats made for JPEG, which training copies have.
    """
    if frame.color_range != ColorRange.JPEG or frame.format.name.startswith("yuvj"):
        return None
    return ColorRange.JPEG


def to_rgb(reformatter: VideoReformatter, frame: VideoFrame) -> VideoFrame:
    """The frame as rgb24."""
    return reformatter.reformat(frame, format="rgb24", src_color_range=full_range(frame), threads=1)


@contextmanager
def converting(path: str, frame: VideoFrame) -> Iterator[None]:
    """What FFmpeg refuses to convert to RGB in this block becomes a VideoError that names the file and its colours."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: {_why_not(frame, error)}") from error


def why_not_rgb(frame: VideoFrame) -> str:
    """Why no RGB can be made of a decoded frame; empty if it can."""
    try:
        to_rgb(VideoReformatter(), frame)
    except av.error.FFmpegError as error:
        return _why_not(frame, error)
    return ""


def _why_not(frame: VideoFrame, error: av.error.FFmpegError) -> str:
    matrix = _NOT_CONVERTED.get(int(frame.colorspace))
    if matrix is None:
        return f"its pictures ({frame.format.name}) cannot be converted to RGB: {reason_of(error)}"
    cure = (
        "run 'tspctl data standardize'"
        if int(frame.colorspace) in STANDARDISED
        else "if the mark is wrong, remove it with 'ffmpeg -i IN -c copy -bsf:v h264_metadata=matrix_coefficients=2 "
        "OUT' (or hevc_metadata)"
    )
    return f"its colours are marked as {matrix}, of which FFmpeg makes no RGB: {cure}"
