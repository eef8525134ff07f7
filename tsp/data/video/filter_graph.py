"""FFmpeg's filter graphs, of pictures and of sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import av.error
import av.filter
from av.audio.frame import AudioFrame
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

FrameT = TypeVar("FrameT", AudioFrame, VideoFrame)


def chain(
    graph: av.filter.Graph, source: FilterContext, filters: Iterable[tuple[str, str | None]], *, sink: str
) -> av.filter.Graph:
    """The graph with these filters, each with its arguments, one behind the other from the source to the sink."""
    last = source
    for name, arguments in filters:
        node = graph.add(name, arguments)
        last.link_to(node)
        last = node
    last.link_to(graph.add(sink))
    graph.configure()
    return graph


def pulled(graph: av.filter.Graph, kind: type[FrameT]) -> Iterator[FrameT]:
    """The frames that a graph has ready."""
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, kind)
        yield frame
