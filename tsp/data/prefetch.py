"""Downloads videos before the workers need them, in the order of use."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable

from tsp.data.cache import VideoCache
from tsp.errors import TspError

log = logging.getLogger(__name__)

THREADS = 4


class Prefetcher:
    """Fetches the videos of the coming steps, at most ``ahead_bytes`` of them before they are used."""

    def __init__(self, cache: VideoCache, keys_by_step: Iterable[Iterable[str]], *, ahead_bytes: int) -> None:
        first_use: dict[str, int] = {}
        for step, keys in enumerate(keys_by_step):
            for key in keys:
                first_use.setdefault(key, step)
        self._cache = cache
        self._todo = deque(first_use.items())
        self._ahead_bytes = ahead_bytes
        self._fetched: deque[tuple[int, int]] = deque()
        """Step of first use and size of each video fetched for a later step."""
        self._step = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]

    def __enter__(self) -> Prefetcher:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def advance(self, step: int) -> None:
        """All steps before this one are done."""
        with self._changed:
            self._step = step
            self._changed.notify_all()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            key, step = task
            try:
                size_bytes = self._cache.fetch(key)
            except TspError as error:
                # The worker that needs it meets the same error and handles it.
                log.debug("prefetching %s failed: %s", key, error)
                continue
            with self._changed:
                self._fetched.append((step, size_bytes))

    def _next(self) -> tuple[str, int] | None:
        """The next key and the first step that uses it; None if nothing is left to do."""
        with self._changed:
            while not self._stopped and self._todo:
                self._fetched = deque(entry for entry in self._fetched if entry[0] >= self._step)
                if sum(size_bytes for _, size_bytes in self._fetched) < self._ahead_bytes:
                    return self._todo.popleft()
                self._changed.wait()
        return None
