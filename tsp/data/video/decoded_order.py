"""The order in which a decoder outputs frames, which is the order in which they are shown; times in that order."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any

import av.error
import numpy as np
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


def filled(times: list[int | None]) -> list[int]:
    """The times, those that are missing evenly between (or as far beyond) those that are there."""
    known = [(number, time) for number, time in enumerate(times) if time is not None]
    if len(known) == len(times):
        return [time for _, time in known]
    if len(known) < 2:
        return []
    numbers, values = zip(*known, strict=True)
    step = (values[-1] - values[0]) / (numbers[-1] - numbers[0])
    filled = np.interp(np.arange(len(times)), numbers, values)
    filled[: numbers[0]] = values[0] - step * np.arange(numbers[0], 0, -1)
    filled[numbers[-1] + 1 :] = values[-1] + step * np.arange(1, len(times) - numbers[-1])
    return [round(time) for time in filled]


def rise(times: list[int]) -> bool:
    """Whether there are several, each later than the one before."""
    return len(times) > 1 and all(earlier < later for earlier, later in itertools.pairwise(times))


def never_fall(times: list[int]) -> bool:
    """Whether there are any, none earlier than the one before."""
    return bool(times) and all(earlier <= later for earlier, later in itertools.pairwise(times))
