"""Limits how long a run holds GPUs while some of its ranks have none.

Kubernetes places pods one by one. Ranks that wait in vain exit after ``rendezvous_timeout_sec``, so that other pods can
use their GPUs; if there are no other pods, they get their GPUs back at once, and would hold them idle for as long as
there are attempts. So the total waiting time of a run over all attempts is limited, too: then the run ends and its GPUs
are free. An object in the store records when the waiting began, by the store's clock.
"""

from __future__ import annotations

import logging
import time

from tsp.errors import MissingKeyError, StoreError
from tsp.run.stored_run import StoredRun

logger = logging.getLogger(__name__)

MARK = "state/placing"
_RESTART_SEC = 600.0
"""A rank that left is back within this time; a mark that is older than the limit and this was left by a killed one."""


class Placement:
    """One rank's view of how long its run may still wait for the others."""

    def __init__(self, run: StoredRun, *, limit_sec: float, meet_sec: float) -> None:
        self._run, self._key = run, run.key(MARK)
        self.limit_sec = limit_sec
        waited_sec = self._waited_sec()
        if waited_sec is None or waited_sec > limit_sec + meet_sec + _RESTART_SEC:
            run.store.write(self._key, b"")
            waited_sec = 0.0
        self.left_sec = max(0.0, limit_sec - waited_sec)
        self._end = time.monotonic() + self.left_sec

    def _waited_sec(self) -> float | None:
        try:
            began = self._run.store.stat(self._key).modified
        except MissingKeyError:
            return None
        return (self._run.store.now() - began).total_seconds()

    @property
    def is_over(self) -> bool:
        """Whether the run has waited for as long as it may."""
        return time.monotonic() >= self._end

    def forget(self) -> None:
        """The ranks have met, or the run ends: reset the waiting time."""
        try:
            self._run.store.delete(self._key)
        except StoreError as error:
            logger.warning("%s remains in the store: %s", self._key, error)
