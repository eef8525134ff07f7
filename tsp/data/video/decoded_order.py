"""The order in which a decoder puts out the frames of packets, which is the order in which they are shown."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from tsp.data.video.open_input import open_input


def undiscarded(packet: Packet[Any]) -> Packet[Any]:
    """The packet without the mark by which an edit list hides its frame from the decoder."""
    if not packet.is_discard:
        return packet
    bare: Packet[Any] = Packet(bytes(packet))
    bare.time_base, bare.is_keyframe = packet.time_base, packet.is_keyframe
    return bare


def decoded_order(path: str, stream_index: int, hidden: frozenset[int] = frozenset()) -> Generator[int]:
    """Numbers of the packets, counted in the order of the file, in the order in which their frames are shown.

    Args: hidden, numbers of the packets whose frames are not.
    """
    with open_input(path) as container:
        stream = container.streams[stream_index]
        assert isinstance(stream, VideoStream)
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        number = 0
        packets = iter(container.demux(stream))
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                break
            if packet.size:
                packet = packet if number in hidden else undiscarded(packet)
                packet.pts = packet.dts = number
                number += 1
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                continue  # a damaged packet has no frame
            yield from (frame.pts for frame in frames if frame.pts is not None)
