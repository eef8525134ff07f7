"""Open video files, kept in a bounded store, and where to start decoding in them."""

from __future__ import annotations

import ctypes
import gc
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tsp.data.video.errors import VideoError
from tsp.data.video.frame_index import INTRA_CODECS, FrameIndex

COLLECT_AFTER = 8
"""Files closed before their decoders are freed."""
TRIM_AFTER = 64
"""Files closed before the freed memory goes back to the system, which costs a third of a percent of reading them."""
MAX_SEEKS = 24
"""How often to seek further back for a key frame that is early enough before starting at the file's beginning."""
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Only glibc has it."""


class VideoSource:
    """One open file: its video stream, decoded by one thread; no other stream is read."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._open()

    def _open(self) -> None:
        try:
            container = av.open(self.path, metadata_errors="ignore")
        except (OSError, ValueError) as error:  # PyAV's errors are kinds of these
            raise VideoError(f"cannot open the video {self.path}: {_reason(error)}") from error
        if not container.streams.video:
            container.close()
            raise VideoError(f"{self.path} holds no video stream")
        self.container: InputContainer = container
        self.stream: VideoStream = container.streams.video[0]
        for stream in container.streams:
            if stream is not self.stream:
                stream.discard = av.stream.Discard.all
        self.codec: VideoCodecContext = self.stream.codec_context
        # More threads gain nothing, and a frame-threaded decoder once hung.
        self.codec.thread_type = "NONE"
        self.codec.thread_count = 1
        self.is_intra = self.codec.name in INTRA_CODECS
        self.index = FrameIndex.of(self.path, container, self.stream)
        """Frames by number, where the file allows it."""
        self.reformatter, self.rgb_reformatter = VideoReformatter(), VideoReformatter()

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of a presentation time."""
        if self.stream.time_base is None:
            raise VideoError(f"{self.path} does not say in which unit its times are")
        return self.stream.time_base

    def key_frame_before(self, pts: int) -> int | None:
        """Decoding time of the last key frame listed at or before pts; None where the file has no such list."""
        entries = self.stream.index_entries
        number = entries.search_timestamp(pts)
        return entries[number].timestamp if number >= 0 and len(entries) > 1 else None

    @property
    def fps(self) -> Fraction | None:
        """Mean frame rate as the file gives it."""
        return self.stream.average_rate or self.stream.guessed_rate

    def close(self) -> None:
        """Give the file handles back."""
        self.container.close()
        if self.index is not None:
            self.index.close()
            self.index = None

    def packets_before(self, target_pts: int) -> Iterator[Packet[Any]]:
        """Packets from the last key frame that is shown at or before target_pts, or from the file's beginning.

        Containers seek by decoding time, so a key frame they offer can be shown too late; then an earlier one is taken.
        """
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
                return itertools.chain([first], packets)
            decoded = first.dts if first.dts is not None else shown
            if decoded is None:
                break
            if decoded == seen:
                step *= 2
            seen, offset = decoded, min(offset, decoded) - step
        return self.all_packets()

    def all_packets(self) -> Iterator[Packet[Any]]:
        """Packets from the very beginning."""
        self.close()
        self._open()
        return self.container.demux(self.stream)


class OpenSources:
    """The files used last, kept open; the one unused for longest is closed when there are too many."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._sources: OrderedDict[str, VideoSource] = OrderedDict()
        self._num_closed = 0

    def get(self, path: str | Path) -> VideoSource:
        """The open file.

        Raises: VideoError if it cannot be opened or holds no video.
        """
        key = str(path)
        source = self._sources.pop(key, None) or VideoSource(key)
        self._sources[key] = source
        while len(self._sources) > self._max_open:
            self._close(self._sources.popitem(last=False)[1])
        return source

    def drop(self, path: str | Path) -> None:
        """Close a file, for instance after an error in it."""
        source = self._sources.pop(str(path), None)
        if source is not None:
            self._close(source)

    def _close(self, source: VideoSource) -> None:
        source.close()
        # A container and its streams refer to each other, and the streams hold decoders of ten megabytes or more that
        # Python's own collections may let pile up for minutes.
        self._num_closed += 1
        if self._num_closed % COLLECT_AFTER == 0:
            gc.collect()
        # Decoders leave holes in glibc's heap that their successors' blocks, aligned otherwise, do not fill: untrimmed,
        # a worker grows by four megabytes every thousand videos.
        if self._num_closed % TRIM_AFTER == 0 and _malloc_trim is not None:
            _malloc_trim(0)

    def close(self) -> None:
        """Close all files."""
        for path in list(self._sources):
            self.drop(path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
