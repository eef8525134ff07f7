"""The sound of a file, in sync with its picture: on the same clock, from the same time 0."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import av.filter
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from tsp.data.video.filter_graph import chain, pulled
from tsp.data.video.open_input import open_input
from tsp.data.video.packet_clock import Clock


def sound_frames(path: str, rate_hz: int) -> Iterator[AudioFrame]:
    """The best sound of a file as stereo, from time 0 without gaps: silence where it begins late or has none.

    Raises: av.error.FFmpegError. What cannot be decoded is silent.
    """
    with open_input(path) as container:
        sound, clock = container.streams.best("audio"), Clock(container)
        assert isinstance(sound, AudioStream)
        video = container.streams.best("video")
        start = Fraction(container.start_time or 0, 1_000_000)
        graph: av.filter.Graph | None = None
        for packet in container.demux([stream for stream in (video, sound) if stream is not None]):
            offset = clock.offset(packet) if packet.size else 0
            if packet.stream.index != sound.index:
                continue
            with contextlib.suppress(av.error.InvalidDataError):
                for frame in sound.codec_context.decode(packet):
                    if graph is None:
                        graph = _sound_graph(sound, frame, rate_hz)
                    if frame.pts is not None and frame.time_base:
                        frame.pts += offset - round(start / frame.time_base)
                    graph.push(frame)
                    yield from pulled(graph, AudioFrame)
        if graph is not None:
            graph.push(None)
            yield from pulled(graph, AudioFrame)


def _sound_graph(sound: AudioStream, first: AudioFrame, rate_hz: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        template=sound, format=first.format.name, layout=first.layout.name, sample_rate=first.sample_rate
    )
    filters = (
        ("aresample", f"{rate_hz}:async=1:first_pts=0"),
        ("aformat", f"sample_fmts=fltp:sample_rates={rate_hz}:channel_layouts=stereo"),
    )
    return chain(graph, source, filters, sink="abuffersink")
