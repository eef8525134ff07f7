"""The order in which a decoder outputs frames, which is the order in which they are shown; times in that order."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Generator
from fractions import Fraction
from statistics import median_low
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


def filled(times: list[int | None]) -> list[int]:
    """The times; a missing one follows the one before by as much as frames usually do, or by less where they would not
    fit: so a pause stays where FFmpeg has it, behind the frames that have no time of their own."""
    known = [(number, time) for number, time in enumerate(times) if time is not None]
    if len(known) == len(times):
        return [time for _, time in known]
    if len(known) < 2:
        return []
    gaps = [(at, time, next_at, next_time) for (at, time), (next_at, next_time) in itertools.pairwise(known)]
    rooms = [Fraction(next_time - time, next_at - at) for at, time, next_at, next_time in gaps]
    usual = median_low(rooms)
    (first, first_time), (last, last_time) = known[0], known[-1]
    filled = [round(first_time - usual * (first - number)) for number in range(first)]
    for (at, time, next_at, _), room in zip(gaps, rooms, strict=True):
        filled += [round(time + min(usual, room) * count) for count in range(next_at - at)]
    return filled + [round(last_time + usual * (number - last)) for number in range(last, len(times))]


def in_order(times: list[int]) -> list[int]:
    """Times that never fall, for frames in the order in which they are shown: even times that were only exchanged are
    sorted; else as many as possible are kept, and the others are filled in.
    """
    ordered = sorted(times)
    steps = [later - earlier for earlier, later in itertools.pairwise(ordered)]
    if not steps or min(steps) >= max(steps) - 1 - max(steps) // 10:
        return ordered
    kept = set(_longest_rise(times))
    mended = filled([time if number in kept else None for number, time in enumerate(times)])
    return mended or ordered


def _longest_rise(times: list[int]) -> list[int]:
    """Numbers of the most times that rise."""
    ends: list[int] = []
    numbers: list[int] = []
    before: list[int] = []
    for number, time in enumerate(times):
        at = bisect.bisect_left(ends, time)
        before.append(numbers[at - 1] if at else -1)
        ends[at : at + 1], numbers[at : at + 1] = [time], [number]
    found, number = [], numbers[-1] if numbers else -1
    while number >= 0:
        found.append(number)
        number = before[number]
    return found[::-1]


def rise(times: list[int]) -> bool:
    """Whether there are several, each later than the one before."""
    return len(times) > 1 and all(earlier < later for earlier, later in itertools.pairwise(times))


def never_fall(times: list[int]) -> bool:
    """Whether there are any, none earlier than the one before."""
    return bool(times) and all(earlier <= later for earlier, later in itertools.pairwise(times))
