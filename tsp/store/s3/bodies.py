"""Reads bodies of boto3's responses, and gives up on a server that sends single bytes without end, as on a silent
one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from tsp.store.s3 import wire


def steadily(body: Any) -> Iterator[bytes]:
    """A body's bytes; reading fails if ``PACE_BYTES`` take longer than ``PACE_SEC``. The read itself cannot be timed,
    since its timeout restarts with each byte. So a thread watches, and closes the connection.
    """
    stop = getattr(getattr(body, "_raw_stream", None), "shutdown", None)
    if stop is None:
        while data := body.read(wire.PACE_BYTES):
            yield data
        return
    pace = _Watch(stop)
    try:
        while data := body.read(wire.PACE_BYTES):
            pace.moved()
            yield data
            pace.moved()
    finally:
        pace.end()


class _Watch:
    """Calls ``stop`` if there was no progress between two checks."""

    def __init__(self, stop: Any) -> None:
        self._stop, self._num_moves, self._ended = stop, 0, threading.Event()
        threading.Thread(target=self._look, name="pace", daemon=True).start()

    def moved(self) -> None:
        """Report progress."""
        self._num_moves += 1

    def end(self) -> None:
        """Look no longer."""
        self._ended.set()

    def _look(self) -> None:
        seen = None
        while not self._ended.wait(wire.PACE_SEC):
            if self._num_moves == seen:
                # It may just have ended, which takes the connection out of our hands.
                with contextlib.suppress(Exception):
                    self._stop()
                return
            seen = self._num_moves
