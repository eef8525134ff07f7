"""From a decoder's pixels to RGB as a player shows them."""

from __future__ import annotations

from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter


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
