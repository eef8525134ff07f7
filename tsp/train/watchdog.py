"""Detects that the training thread is stuck, reports why, and ends the process if it stays stuck.

The problem: a thread inside a library (a collective, a launch on a GPU whose queue is full, a read from a dead file
server) reacts to neither signals nor exceptions, and torch's own timeouts abort the process or take half an hour.
The idea: before a call that may block, the training thread declares its purpose and time limit. The watchdog thread
checks this, pending signals and the other ranks' heartbeats, and determines the error to end with (the verdict). A wait
that polls raises this error and unwinds normally. If the training thread is still stuck after a grace period, the
watchdog writes the last log lines, lets uploads finish and ends the process with the error's exit code.
Invariants: a verdict is reached only during a wait; the first one counts; a wait that ends in time costs two
assignments.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tsp.errors import PeerLostError, StalledError, TspError, exit_code_of
from tsp.train.peers import PeerMonitor
from tsp.train.stop_signal import Stop

logger = logging.getLogger(__name__)

LOOK_EVERY_SEC = 0.5
NOTICE_SEC = 30.0
"""Waits longer than this are shown in ``status``."""
GRACE_SEC = 15.0
"""How long the training thread may take to unwind by itself after a verdict."""
LAST_WORDS_SEC = 150.0
"""How long uploads and logs may take before the process is ended regardless."""
SILENT_PEER_SEC = 60.0
"""A rank without a heartbeat for this long is lost, if another one is waiting for it."""


@dataclass(eq=False, slots=True)
class _Wait:
    what: str
    limit_sec: float
    setting: str
    """Of the limit, for the message."""
    needs_peers: bool
    stop_after_sec: float
    """How long the wait may continue after a signal."""
    since: float = field(default_factory=time.monotonic)


class Watchdog:
    """Watches one training thread, from ``start`` to ``close``."""

    def __init__(
        self, stop: Stop, peers: PeerMonitor | None = None, *, end: Callable[[int], object] = os._exit
    ) -> None:
        self.stop, self.peers = stop, peers
        self.end = end
        """Ends the process with an exit code."""
        self.on_notice: Callable[[str | None], None] = lambda waiting_for: None
        """Called with the reason of a long wait, and with None when it is over."""
        self.last_words: list[Callable[[TspError], object]] = []
        """Called in turn before the process is ended."""
        self.verdict: TspError | None = None
        self.grace_sec = GRACE_SEC
        self._wait: _Wait | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    @contextmanager
    def waiting(
        self, what: str, limit_sec: float, *, setting: str = "", needs_peers: bool = False, stop_after_sec: float = 30.0
    ) -> Iterator[None]:
        """Context in which the training thread may block; contexts may be nested, the inner one counts.

        Args: what, "a batch of clips", for messages; limit_sec, after which it is stalled; setting, the name of that
            limit; needs_peers, whether other ranks can end it; stop_after_sec, how long it may still take after a
            signal to end.
        Raises: the verdict.
        """
        before, self._wait = self._wait, _Wait(what, limit_sec, setting, needs_peers, stop_after_sec)
        try:
            yield
        finally:
            self._wait = before
            if before is not None:
                before.since = time.monotonic()
        self.check()

    def check(self) -> None:
        """Raise the verdict, if any; for waits that poll."""
        if self.verdict is not None:
            raise self.verdict

    def _watch(self) -> None:
        noticed: _Wait | None = None
        condemned: tuple[_Wait, float] | None = None
        while not self._closed.wait(LOOK_EVERY_SEC):
            wait, now = self._wait, time.monotonic()
            noticed = self._notice(wait, now, noticed)
            if wait is None:
                condemned = None
                continue
            if condemned is None or condemned[0] is not wait:
                verdict = self._judge(wait, now - wait.since)
                if verdict is None:
                    continue
                self.verdict = self.verdict or verdict
                condemned = wait, now
            elif now - condemned[1] > self.grace_sec and self._wait is wait:
                self._end()
                return

    def _notice(self, wait: _Wait | None, now: float, noticed: _Wait | None) -> _Wait | None:
        """Report a long wait once; returns the wait that is shown."""
        if noticed is not None and wait is not noticed:
            self.on_notice(None)
            noticed = None
        if wait is not None and noticed is None and now - wait.since > NOTICE_SEC:
            logger.warning("waiting for %s for %.0f s", wait.what, now - wait.since)
            self.on_notice(wait.what)
            noticed = wait
        return noticed

    def _judge(self, wait: _Wait, elapsed_sec: float) -> TspError | None:
        """The error that a wait must end with, if any."""
        if self.stop.heard_anywhere() and elapsed_sec > wait.stop_after_sec:
            return self.stop.terminated(f"waiting for {wait.what}")
        if wait.needs_peers and self.peers is not None:
            failure = self.peers.failure
            if failure is not None:
                return failure.error()
            silent = self.peers.silent(SILENT_PEER_SEC) if elapsed_sec > SILENT_PEER_SEC / 4 else []
            if silent:
                names = ", ".join(map(str, silent))
                return PeerLostError(f"no heartbeat from rank {names} for {SILENT_PEER_SEC:.0f} s, in {wait.what}")
        if elapsed_sec <= wait.limit_sec:
            return None
        kind = PeerLostError if wait.needs_peers else StalledError
        setting = f" ({wait.setting})" if wait.setting else ""
        return kind(f"gave up waiting for {wait.what} after {wait.limit_sec:.0f} s{setting}")

    def _end(self) -> None:
        """Do what the stuck training thread cannot, and end the process."""
        assert self.verdict is not None
        code = exit_code_of(self.verdict)
        timer = threading.Timer(LAST_WORDS_SEC, self.end, (code,))
        timer.daemon = True
        timer.start()
        logger.error("%s", self.verdict)
        for act in self.last_words:
            try:
                act(self.verdict)
            except Exception as failure:
                logger.error("before the end: %s", failure)
        self.end(code)
