"""A bounded number of open video files; frees memory that closing a file does not free."""

from __future__ import annotations

import ctypes
import gc
from collections import OrderedDict
from pathlib import Path

from tsp.data.video.open_video import VideoSource

COLLECT_AFTER = 8
"""Files closed before their decoders are freed."""
TRIM_AFTER = 64
"""Files closed before the freed memory goes back to the system, which costs a third of a percent of reading them."""
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Only glibc has it."""


class OpenSources:
    """The most recently used files, kept open; if there are too many, the least recently used is closed."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._sources: OrderedDict[str, VideoSource] = OrderedDict()
        self._num_closed = 0

    def get(self, path: str | Path) -> VideoSource:
        """The open file.

        Raises: VideoError if it cannot be opened or contains no video.
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
