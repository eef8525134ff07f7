"""Heartbeats and final errors of the ranks, over their key-value store, on a separate thread.

A collective that waits for a lost rank waits until its backend times out. So every rank increments its own key every
few seconds, and the first one to fail records the reason. The monitoring thread may itself hang if rank 0, which holds
the store, is stopped; this is detected by the age of the last answer.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from tsp.errors import PeerLostError, TspError
from tsp.run.status import is_permanent

logger = logging.getLogger(__name__)

EVERY_SEC = 3.0
EAGER_SEC = 0.1
ASK_SEC = 20.0
"""Time limit of a request to the store."""
TELL_SEC = 5.0
_FAILURE_KEY = "tsp/failure"


class FailedElsewhereError(TspError):
    """Another rank failed permanently; carries its message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Failure:
    """Why another rank ended."""

    rank: int
    exit_code: int
    message: str

    def error(self) -> TspError:
        """The error that this rank ends with: as permanent as the other's, or retried."""
        if is_permanent(self.exit_code):
            return FailedElsewhereError(f"rank {self.rank}: {self.message}", self.exit_code)
        return PeerLostError(f"rank {self.rank} ended: {self.message}")


class PeerMonitor:
    """Tells the other ranks that this one is alive, and watches whether they are."""

    def __init__(self, store: TCPStore, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.failure: Failure | None = None
        """The first failure that another rank reported."""
        self._store = store.clone()
        self._store.set_timeout(timedelta(seconds=ASK_SEC))
        now = time.monotonic()
        self._last_sign = {other: (b"", now) for other in range(world_size) if other != rank}
        self._answered = now
        self._asked = threading.Condition()
        self._eager = self._closed = False
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._asked:
            self._closed = True
            self._asked.notify_all()

    def silent(self, for_sec: float) -> list[int]:
        """Ranks without a heartbeat for that long; rank 0 if its store does not answer."""
        now = time.monotonic()
        if now - self._answered > for_sec:
            return [0] if self.rank != 0 else []
        # Heartbeats are only as fresh as the last answer.
        return [rank for rank, (_, seen) in self._last_sign.items() if self._answered - seen > for_sec]

    def report(self, message: str, exit_code: int) -> None:
        """Report why this rank ends, unless another one has: the first cause counts. Never raises or hangs."""
        value = json.dumps([self.rank, exit_code, message])

        def tell() -> None:
            try:
                self._store.compare_set(_FAILURE_KEY, "", value)
            except (RuntimeError, dist.DistError) as failure:
                logger.debug("cannot notify the other ranks: %s", failure)

        thread = threading.Thread(target=tell, name="last-word", daemon=True)
        thread.start()
        thread.join(TELL_SEC)

    def failure_within(self, wait_sec: float) -> Failure | None:
        """Why another rank ended, if it reports that in time."""
        end = time.monotonic() + wait_sec
        with self._asked:
            self._eager = True
            self._asked.notify_all()
            while self.failure is None and not self._closed and (left := end - time.monotonic()) > 0:
                self._asked.wait(left)
            self._eager = False
        return self.failure

    def _run(self) -> None:
        count = 0
        while not self._closed:
            count += 1
            try:
                self._ask(count)
            except (RuntimeError, dist.DistError) as failure:
                logger.debug("the ranks' store does not answer: %s", failure)
            with self._asked:
                self._asked.notify_all()
                if not self._closed:
                    self._asked.wait(EAGER_SEC if self._eager else EVERY_SEC)

    def _ask(self, count: int) -> None:
        self._store.set(alive_key(self.rank), str(count))
        if self.failure is None and self._store.check([_FAILURE_KEY]):
            rank, exit_code, message = json.loads(self._store.get(_FAILURE_KEY))
            if rank != self.rank:
                self.failure = Failure(rank, exit_code, message)
        others = list(self._last_sign)
        signs = self._store.multi_get([alive_key(other) for other in others])
        self._answered = time.monotonic()
        for other, sign in zip(others, signs, strict=True):
            if sign != self._last_sign[other][0]:
                self._last_sign[other] = sign, self._answered


def alive_key(rank: int) -> str:
    """The key that a rank counts up while it is alive, from the rendezvous on."""
    return f"tsp/here/{rank}"
