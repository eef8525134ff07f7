"""The time in which a loop waits for its next batch: measured, watched, and judged against the rest of a step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tsp.train.watchdog import Watchdog

STOP_AFTER_SEC = 120.0
"""A batch that comes so long after SIGTERM still ends between two steps, where the state can be saved."""


class DataWait:
    """Adds up what a loop waits for data."""

    def __init__(self, watchdog: Watchdog | None = None, *, limit_sec: float = math.inf) -> None:
        self.total_sec = 0.0
        self._watchdog = watchdog
        self._limit_sec = limit_sec

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """While the next batch is waited for."""
        started = time.monotonic()
        try:
            if self._watchdog is None:
                yield
            else:
                limit_sec, setting = self._limit_sec, "data.batch_deadline_sec"
                with self._watchdog.waiting("clips", limit_sec, setting=setting, stop_after_sec=STOP_AFTER_SEC):
                    yield
        finally:
            self.total_sec += time.monotonic() - started
