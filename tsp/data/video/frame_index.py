"""Reads frames by number, directly from their offsets: for files that list all frames, each of which is a key frame.

Training copies are such files. Nothing is demuxed, and a raw frame is not even decoded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tsp.data.video.errors import VideoError

INTRA_CODECS = frozenset({"mjpeg", "rawvideo"})
"""Codecs of which every frame stands alone: what is not wanted is not decoded at all."""
_LISTING_FORMAT = "mov"
"""The container, by FFmpeg's name, whose header lists every frame."""
_RGB_BYTES = 3


class FrameIndex:
    """The frames of one open file by their numbers, counted from 0 in the order of presentation."""

    def __init__(self, path: str, stream: VideoStream, origin: int) -> None:
        """Opens the file a second time, to read its bytes; ``origin`` is the listed time of time 0."""
        self._origin = origin
        self._path = path
        self._entries = stream.index_entries
        self._codec = stream.codec_context
        is_rgb = self._codec.name == "rawvideo" and stream.pix_fmt == "rgb24"
        self._raw_size = (stream.height, stream.width) if is_rgb else None
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def of(cls, path: str, container: InputContainer, stream: VideoStream, origin: int) -> FrameIndex | None:
        """The file's, or None where frames are not listed or need others."""
        if stream.codec_context.name not in INTRA_CODECS or _LISTING_FORMAT not in container.format.name.split(","):
            return None
        entries = stream.index_entries
        # Fragments are not listed in front, an edit list hides frames or shows them twice, and a first frame that is
        # shown later than it is decoded would shift all times.
        is_full = 0 < stream.frames == len(entries) and entries[0].timestamp == stream.start_time
        return cls(path, stream, origin) if is_full else None

    def close(self) -> None:
        """Give the file handle back."""
        os.close(self._descriptor)

    def numbers(self, start_pts: int, offsets: Sequence[int]) -> list[int] | None:
        """Numbers of a clip's frames: the one on screen at start_pts, and those at the offsets after it. Returns: None
        if the file ends earlier, has several frames with the same time, or dropped one of them.
        """
        start_pts += self._origin
        entries, found = self._entries, self._entries.search_timestamp(start_pts)
        first = max(found, 0)
        listed = entries[first : first + offsets[-1] + 2]  # with the next, which may have the time of the last
        if len(listed) <= offsets[-1] or (found >= 0 and listed[0].timestamp > start_pts):
            return None
        times = [entry.timestamp for entry in listed]
        if not all(entry.size for entry in listed) or any(later <= earlier for earlier, later in pairwise(times)):
            return None
        return [first + offset for offset in offsets]

    def frame(self, number: int) -> VideoFrame | np.ndarray:
        """One frame: decoded, or of a raw file uint32 [H, W], bytes R, G, B and one without meaning, three apart.

        Raises: VideoError if the file is cut off before its end; av.error.FFmpegError if it cannot be decoded.
        """
        entry = self._entries[number]
        # The last pixel's four bytes reach one beyond the frame.
        buffer = np.empty(entry.size + 1, np.uint8)
        if os.preadv(self._descriptor, [buffer[: entry.size].data], entry.pos) != entry.size:
            raise VideoError(f"{self._path} is cut off within frame {number}")
        if self._raw_size is not None and entry.size == self._raw_size[0] * self._raw_size[1] * _RGB_BYTES:
            strides = (self._raw_size[1] * _RGB_BYTES, _RGB_BYTES)
            return np.ndarray(self._raw_size, np.uint32, buffer=buffer.data, strides=strides)
        frames = self._codec.decode(av.Packet(buffer[: entry.size].tobytes()))
        if len(frames) != 1:
            raise VideoError(f"{self._path} has no picture in frame {number}")
        return frames[0]
