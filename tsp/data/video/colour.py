"""From a decoder's pixels to RGB as a player shows them."""

from __future__ import annotations

from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter


def full_range(frame: VideoFrame) -> ColorRange | None:
    """The mark of a frame whose levels go from 0 to 255; None for the usual 16 to 235, which FFmpeg takes for granted.

    It reads the matrix off the frame by itself, but the range only off the pixel formats made for JPEG.
    """
    return ColorRange.JPEG if frame.color_range == ColorRange.JPEG else None


def to_rgb(reformatter: VideoReformatter, frame: VideoFrame) -> VideoFrame:
    """The frame as rgb24."""
    return reformatter.reformat(frame, format="rgb24", src_color_range=full_range(frame), threads=1)
