"""An open video file, and where to start decoding in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tsp.data.video.choose_stream import best_video_stream
from tsp.data.video.decoded_order import undiscarded
from tsp.data.video.errors import (
    VideoError,
    hint,
    reading,
    reason_of,
    refuse_what_is_no_file,
    refuse_what_is_no_video,
)
from tsp.data.video.frame_index import INTRA_CODECS, FrameIndex
from tsp.data.video.open_input import open_input
from tsp.data.video.packet_scan import HIDDEN, Scan
from tsp.data.video.timeline import establish
from tsp.errors import TspError

MAX_SEEKS = 24
"""How often to seek further back for a key frame that is early enough before starting at the file's beginning."""
_PREDICTED = frozenset({PictureType.P, PictureType.B, PictureType.S, PictureType.SP})
SKIPPABLE_CODECS = frozenset({"h264", "hevc"})
"""Codecs whose decoders can leave out frames that nothing refers to."""


class UnsureError(Exception):
    """A fast way to decode is not reliable for this file: decode all of it from the beginning."""


class VideoSource:
    """One open file: the video stream that a player shows, decoded by one thread; no other stream is read.

    All times are those of the file's timeline: 0 is where a player shows 0.
    """

    def __init__(
        self, path: str | Path, *, whole: bool = False, untimed: bool = False, reordered: bool = False
    ) -> None:
        """Open the file and determine its times. Args: whole, read all packets for this, even if there is no doubt;
        untimed, give an elementary stream times; reordered, correct times that do not rise in the decoder's order.
        Raises: VideoError if it cannot be opened, contains no video, or its times are not whole.
        """
        self.path = str(path)
        self.index: FrameIndex | None = None
        self.key_marks_lie = False
        """Whether a frame was met that the container marks as a key frame and that needs others."""
        self._entry: int | None = None
        self._open()
        try:
            with reading(self.path):
                self.timeline = establish(
                    self.path, self.container, self.stream, whole=whole, untimed=untimed, reordered=reordered
                )
                self.index = FrameIndex.of(self.path, self.container, self.stream, self.timeline.origin)
        except VideoError:
            self.close()
            raise

    def _open(self) -> None:
        try:
            refuse_what_is_no_file(self.path)
            container = open_input(self.path)
        except TspError:
            raise
        except Exception as error:
            raise VideoError(f"cannot open the video {self.path}: {reason_of(error)}{hint(self.path)}") from error
        try:
            refuse_what_is_no_video(self.path, container.format.name)
        except VideoError:
            container.close()
            raise
        stream = best_video_stream(container)
        if stream is None:
            container.close()
            raise VideoError(f"{self.path} contains no video stream that can be decoded")
        self.container: InputContainer = container
        self.stream: VideoStream = stream
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        self.codec: VideoCodecContext = stream.codec_context
        # More threads gain nothing, and a frame-threaded decoder once hung.
        self.codec.thread_type = "NONE"
        self.codec.thread_count = 1
        # Without it, FFmpeg keeps columns that a stream cuts off at its left, to have rows begin at round addresses.
        self.codec.flags |= Flags.unaligned
        self.is_intra = self.codec.name in INTRA_CODECS
        self.reformatter, self.rgb_reformatter = VideoReformatter(), VideoReformatter()

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of a presentation time."""
        return self.timeline.time_base

    @property
    def is_skippable(self) -> bool:
        """Whether frames that no other frame refers to can be skipped, by the times of their packets."""
        return self.codec.name in SKIPPABLE_CODECS and not (self.timeline.scan and self.timeline.scan.fields_apart)

    @property
    def fps(self) -> Fraction | None:
        """Frame rate, from the frames' times."""
        return self.timeline.fps

    def key_frame_before(self, pts: int) -> int | None:
        """Time of the last key frame listed at or before pts; None where there is no such list."""
        scan = self.timeline.scan
        if self.key_marks_lie:
            return None
        if scan is not None:
            return int(scan.pts[scan.key_before(pts)])
        entries = self.stream.index_entries
        number = entries.search_timestamp(pts + self.timeline.origin)
        return entries[number].timestamp - self.timeline.origin if number >= 0 and len(entries) > 1 else None

    def close(self) -> None:
        """Give the file handles back."""
        self.container.close()
        if self.index is not None:
            self.index.close()
            self.index = None

    def packets_before(self, target_pts: int) -> Iterator[Packet[Any]]:
        """Packets from the last key frame that is shown at or before target_pts, or from the file's beginning.

        Each packet's ``pts`` is when its frame is shown (None: never), and no later packet has one below its ``dts``.
        """
        if self.timeline.scan is not None:
            return self._scanned(self.timeline.scan, self.timeline.scan.key_before(target_pts))
        return self._sought(target_pts)

    def all_packets(self) -> Iterator[Packet[Any]]:
        """The same from the very beginning."""
        self._entry = None
        self._reopen()
        if self.timeline.scan is not None:
            return self._numbered(self.timeline.scan, self.container.demux(self.stream), 0, 0)
        return self._shifted(self.container.demux(self.stream))

    def decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """The frames that the decoder puts out.

        Raises: UnsureError if decoding did not begin at a key frame: some containers mark all frames, and decoders then
        output frames with missing references, or none; av.error.FFmpegError.
        """
        frames = self.codec.decode(packet)
        if self._entry is not None:
            self._verify_entry(frames, self._entry)
        return frames

    def is_entry(self, packet: Packet[Any]) -> bool:
        """Whether decoding begins at this packet, so that it must not be skipped."""
        return self._entry is not None and packet.pts == self._entry

    def _verify_entry(self, frames: Iterable[VideoFrame], entry: int) -> None:
        for frame in frames:
            if frame.pts is None or frame.pts < entry:
                continue  # of before the key frame, but stored after it
            if frame.pts > entry or (frame.pict_type in _PREDICTED and not frame.key_frame):
                self.key_marks_lie = True
                raise UnsureError
            self._entry = None
            return

    def _reopen(self) -> None:
        self.container.close()
        self._open()

    # Files whose packets' own times are right

    def _sought(self, target_pts: int) -> Iterator[Packet[Any]]:
        """As ``packets_before``.

        Containers seek by decoding time, so a key frame they offer can be shown too late; then an earlier one is taken.
        """
        target_pts += self.timeline.origin
        offset, step, seen = target_pts, 1, None
        for _ in range(MAX_SEEKS):
            try:
                self.container.seek(offset, stream=self.stream)
            except av.error.FFmpegError:
                break
            packets = self.container.demux(self.stream)
            first = next(packets, None)
            if first is None or first.size == 0:
                break
            shown = first.pts if first.pts is not None else first.dts
            if first.is_keyframe and shown is not None and shown <= target_pts:
                # The frame of a packet that an edit list hides does not come out.
                self._entry = None if self.is_intra or first.is_discard else shown - self.timeline.origin
                return self._shifted(itertools.chain([first], packets))
            decoded = first.dts if first.dts is not None else shown
            if decoded is None:
                break
            if decoded == seen:
                step *= 2
            seen, offset = decoded, min(offset, decoded) - step
        return self.all_packets()

    def _shifted(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        origin = self.timeline.origin
        for packet in packets:
            if not packet.size and packet.pts is not None:
                continue  # a frame that was dropped while recording
            if origin:
                packet.pts = None if packet.pts is None else packet.pts - origin
                packet.dts = None if packet.dts is None else packet.dts - origin
            yield packet

    # Files whose packets were all read before

    def _scanned(self, scan: Scan, key: int) -> Iterator[Packet[Any]]:
        self._entry = int(scan.pts[key]) if key and not self.is_intra else None
        offset, step = int(scan.seek_to[key]), round(1 / self.time_base)
        while key and scan.is_seekable and offset > int(scan.seek_to[0]):
            try:
                self.container.seek(offset, stream=self.stream)
            except av.error.FFmpegError:
                break
            packets = self.container.demux(self.stream)
            first = next(packets, None)
            number = np.flatnonzero(scan.position == (first.pos if first and first.size else None))
            if first is not None and len(number) and number[0] <= key:
                return self._numbered(scan, itertools.chain([first], packets), int(number[0]), key)
            offset, step = offset - step, step * 2
        self._reopen()
        return self._numbered(scan, self.container.demux(self.stream), 0, key)

    def _numbered(self, scan: Scan, packets: Iterable[Packet[Any]], number: int, first: int) -> Iterator[Packet[Any]]:
        """The packets from number ``first`` on, with the scan's times; ``number`` is that of the first one given."""
        for packet in packets:
            if not packet.size and packet.pts is not None:
                continue
            if packet.size:
                if number == len(scan.pts) and scan.fault:
                    return  # where the scan ended
                if number >= len(scan.pts) or scan.position[number] != (-1 if packet.pos is None else packet.pos):
                    raise VideoError(f"{self.path} changed while it was being read")
                shown, number = int(scan.pts[number]), number + 1
                if number <= first:
                    continue
                packet = packet if shown == HIDDEN else undiscarded(packet)
                packet.pts, packet.dts = None if shown == HIDDEN else shown, int(scan.due[number - 1])
            yield packet
