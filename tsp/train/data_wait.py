"""The time a loop spends waiting for its next batch: measured, and watched by the watchdog."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tsp.config.run import DataConfig
from tsp.train.watchdog import Watchdog

LOADER_FIRST_SEC = 60.0
STOP_AFTER_SEC = 120.0
"""A batch that arrives this long after SIGTERM still lets the loop end between two steps and save its state."""


class DataWait:
    """Adds up the time a loop waits for data."""

    def __init__(self, watchdog: Watchdog | None = None, *, limit_sec: float = math.inf) -> None:
        self.total_sec = 0.0
        self._watchdog = watchdog
        self._limit_sec = limit_sec

    @classmethod
    def of_loader(cls, watchdog: Watchdog, config: DataConfig) -> DataWait:
        """The loader has its own deadline with a better message; the watchdog's is later."""
        return cls(watchdog, limit_sec=config.batch_deadline_sec + LOADER_FIRST_SEC)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Context of a wait for the next batch."""
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
