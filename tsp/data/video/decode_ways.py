"""Ways to decode the frames that clips want, fastest first: by packets' times, or all frames and then their times.

The first one skips frames that no clip needs and no other frame refers to. It must decide before a packet goes to the
decoder, so it relies on packets' times, and raises UnsureError where they are not reliable. The others decode
everything from a key frame, or from the file's beginning, and choose among the decoded frames.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from av.packet import Packet
from av.video.frame import VideoFrame

from tsp.data.video.errors import VideoError
from tsp.data.video.frame_chooser import FrameChooser
from tsp.data.video.open_video import UnsureError, VideoSource

REORDER_FRAMES = 16
"""How far decoders of odd files may put out frames in the wrong order (an H.264 decoder holds at most 16)."""

Way = Callable[[VideoSource, FrameChooser], Iterator[VideoFrame]]


def decode_wanted(source: VideoSource, chooser: FrameChooser) -> Iterator[VideoFrame]:
    """The wanted frames, their packets found by time; others are decoded only if frames refer to them."""
    waiting: deque[Packet[Any]] = deque()
    unordered: list[int] = []
    for packet in source.packets_before(chooser.first_target):
        if packet.size == 0:
            break
        if packet.dts is None or (packet.pts is None and source.timeline.scan is None):
            raise UnsureError
        waiting.append(packet)
        # A packet outside the file's edit list is decoded but never shown.
        if packet.pts is not None and not packet.is_discard:
            heapq.heappush(unordered, packet.pts)
        # No later packet is shown before it is decoded, so all frames due until now are complete.
        while unordered and unordered[0] <= packet.dts:
            _push_rising(chooser, heapq.heappop(unordered))
        if chooser.complete:
            # Nothing behind the last wanted packet need be decoded.
            break
        while waiting and (waiting[0].pts is None or chooser.is_decided(waiting[0].pts)):
            yield from _decode_one(source, waiting.popleft(), chooser)
    while unordered:
        _push_rising(chooser, heapq.heappop(unordered))
    chooser.finish()
    last = max((index for index, packet in enumerate(waiting) if packet.pts in chooser.wanted), default=-1)
    for _ in range(last + 1):
        yield from _decode_one(source, waiting.popleft(), chooser)
    if not source.is_intra:
        yield from (frame for frame in source.decode(None) if frame.pts in chooser.wanted)


def _decode_one(source: VideoSource, packet: Packet[Any], chooser: FrameChooser) -> Iterator[VideoFrame]:
    wanted = packet.pts in chooser.wanted
    if not wanted and source.is_intra:
        return
    source.codec.skip_frame = "DEFAULT" if wanted or source.is_entry(packet) else "NONREF"
    for frame in source.decode(packet):
        if frame.pts in chooser.wanted:
            yield frame


def _push_rising(chooser: FrameChooser, pts: int) -> None:
    if not chooser.push(pts):
        raise UnsureError


def decode_all(source: VideoSource, chooser: FrameChooser) -> Iterator[VideoFrame]:
    """The wanted frames, everything decoded from the key frame before the first of them."""
    return _choose_decoded(source, source.packets_before(chooser.first_target), chooser)


def decode_all_from_beginning(source: VideoSource, chooser: FrameChooser) -> Iterator[VideoFrame]:
    """The wanted frames, everything decoded from the file's beginning."""
    return _choose_decoded(source, source.all_packets(), chooser)


def _choose_decoded(source: VideoSource, packets: Iterator[Packet[Any]], chooser: FrameChooser) -> Iterator[VideoFrame]:
    source.codec.skip_frame = "DEFAULT"
    waiting: list[tuple[int, int, VideoFrame]] = []
    undecided: deque[VideoFrame] = deque()
    for number, frame in enumerate(frame for packet in packets for frame in source.decode(packet)):
        if frame.pts is None:
            if source.timeline.scan is not None:
                continue  # its packet was found to be hidden
            raise VideoError(f"{source.path} has frames without a time: run 'tspctl data standardize' first")
        heapq.heappush(waiting, (frame.pts, number, frame))
        if len(waiting) > REORDER_FRAMES:
            yield from _choose_next(waiting, undecided, chooser)
        if chooser.complete and not undecided:
            return
    while waiting:
        yield from _choose_next(waiting, undecided, chooser)
    chooser.finish()
    yield from (frame for frame in undecided if frame.pts in chooser.wanted)


def _choose_next(
    waiting: list[tuple[int, int, VideoFrame]], undecided: deque[VideoFrame], chooser: FrameChooser
) -> Iterator[VideoFrame]:
    pts, _, frame = heapq.heappop(waiting)
    # Of several frames with the same time, the last one stays on screen.
    if not waiting or waiting[0][0] != pts:
        yield from _choose(frame, undecided, chooser)


def _choose(frame: VideoFrame, undecided: deque[VideoFrame], chooser: FrameChooser) -> Iterator[VideoFrame]:
    if frame.pts is None or not chooser.push(frame.pts):
        return
    undecided.append(frame)
    while undecided and chooser.is_decided(undecided[0].pts or 0):
        decided = undecided.popleft()
        if decided.pts in chooser.wanted:
            yield decided
