"""FFmpeg's filter graphs, of pictures and of sound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import av.error
import av.filter
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

FrameT = TypeVar("FrameT", AudioFrame, VideoFrame)


def pulled(graph: av.filter.Graph, kind: type[FrameT]) -> Iterator[FrameT]:
    """The frames that a graph has ready."""
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, kind)
        yield frame
