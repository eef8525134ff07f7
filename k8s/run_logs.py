"""Logs of all pods of a run as one stream in order of time, from before the first pod to the end of the run.

Each pod's log is read by a thread of its own (``pod_log`` reconnects it), since a stream blocks while its pod is
silent. The threads fill bounded queues, so that reading of a rank that writes faster than the terminal pauses instead
of filling the memory. One consumer merges: it returns the oldest available line, but only once no other rank can still
provide an older one; it does not wait for ranks that have been silent for ``_HOLD_SEC``. Lines of one rank therefore
always keep their order, lines of different ranks are ordered to within that time. Pods are polled rather than watched:
a new pod of the same name is another pod (its uid counts), and is read from its beginning. The end of the run is
checked before the pods are listed, so that the last listing has every pod there will ever be, and the stream ends only
when every reader has been drained.
"""

from __future__ import annotations

import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from k8s.names import rank_of, ranks_in
from k8s.pod_log import Line, PodApi, PodLog, Wanted
from k8s.status import pod_status
from tsp.errors import ClusterError, UnreachableError

logger = logging.getLogger(__name__)

Pods = list[dict[str, Any]]

_QUEUED_LINES = 1000
_POLL_SEC = 1.0
_HOLD_SEC = 0.3
"""A rank that has been silent for that long no longer holds up the lines of the others."""


class LogApi(PodApi, Protocol):
    """What reading logs needs of a cluster; one run of it."""

    def pods(self) -> Pods:
        """Pods of the run as they are now."""
        ...

    def ended(self) -> bool:
        """Whether no pod will come any more."""
        ...


def read_logs(api: LogApi, wanted: Wanted) -> Iterator[Line]:
    """What the pods have written so far."""
    return heapq.merge(*(PodLog(api, pod, wanted, follow=False).lines() for pod in _chosen(api.pods(), wanted)))


def follow_logs(api: LogApi, wanted: Wanted, *, on_silence: Callable[[Pods], None] | None = None) -> Iterator[Line]:
    """Lines as they are written, from before the first pod to the end of the run.

    Args: on_silence, called with the pods whenever they were listed and no line is available.
    """
    follower = _Follower(api, wanted)
    next_look = 0.0
    try:
        while True:
            if time.monotonic() >= next_look and not follower.ended:
                pods = follower.look()
                next_look = time.monotonic() + _POLL_SEC
                if on_silence is not None and pods is not None and not follower.has_lines():
                    on_silence(pods)
            line = follower.next_line()
            if line is not None:
                yield line
            elif follower.ended and follower.drained():
                return
            else:
                follower.wait()
    finally:
        follower.stop.set()


class _Follower:
    """A reader for every current and future pod, and their lines merged by time."""

    def __init__(self, api: LogApi, wanted: Wanted) -> None:
        self._api, self._wanted = api, wanted
        self._readers: dict[str, _Reader] = {}
        self._arrived = threading.Condition()
        self.stop = threading.Event()
        self.ended = self._is_away = False

    def look(self) -> Pods | None:
        """Start readers for new pods. Returns: the pods, or None while the server is away."""
        try:
            # Asked before looking: a run that has ended then shows all its pods.
            ended = self._api.ended()
            pods = self._api.pods()
        except UnreachableError as error:
            if not self._is_away:
                logger.warning("%s; still trying", error)
            self._is_away = True
            return None
        self._is_away = False
        # Only pods that exist at the start are limited to the tail; later pods are read from the beginning.
        wanted = replace(self._wanted, tail=None) if self._readers else self._wanted
        for pod in _chosen(pods, wanted):
            uid = pod_status(pod).uid
            if uid not in self._readers:
                log = PodLog(self._api, pod, wanted, follow=True, stop=self.stop)
                self._readers[uid] = _Reader(log.lines(), self._arrived, self.stop)
        self.ended = ended
        return pods

    def next_line(self) -> Line | None:
        """The oldest available line, unless an older one may still arrive."""
        readers = self._readers.values()
        for reader in readers:
            reader.fill()
        now = time.monotonic()
        if any(reader.holds_up(now) for reader in readers):
            return None
        with_lines = [reader for reader in readers if reader.head is not None]
        return min(with_lines, key=lambda reader: reader.head or _NEVER).take() if with_lines else None

    def has_lines(self) -> bool:
        """Whether a line waits to be given."""
        return any(reader.has_lines() for reader in self._readers.values())

    def drained(self) -> bool:
        """Whether every pod has ended and every line was given."""
        return all(reader.drained() for reader in self._readers.values())

    def wait(self) -> None:
        """Until a line comes, or a moment has passed."""
        with self._arrived:
            self._arrived.wait(0.05)


_NEVER = Line(2**63, 0, "")


class _Reader:
    """A thread that reads one pod's lines into a bounded queue."""

    def __init__(self, lines: Iterator[Line], arrived: threading.Condition, stop: threading.Event) -> None:
        self._queue: queue.Queue[Line] = queue.Queue(_QUEUED_LINES)
        self._finished = threading.Event()
        self._quiet_since = time.monotonic()
        self._stop = stop
        self.head: Line | None = None
        threading.Thread(target=self._run, args=(lines, arrived), daemon=True).start()

    def _run(self, lines: Iterator[Line], arrived: threading.Condition) -> None:
        try:
            for line in lines:
                if not self._put(line):
                    return
                with arrived:
                    arrived.notify()
        except ClusterError as error:
            logger.warning("cannot continue reading: %s", error)
        finally:
            self._finished.set()

    def _put(self, line: Line) -> bool:
        """Queue a line, waiting for room; False if no consumer is left."""
        while not self._stop.is_set():
            try:
                self._queue.put(line, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def fill(self) -> None:
        """Fetch the next line, if there is one."""
        if self.head is None and not self._queue.empty():
            self.head = self._queue.get_nowait()
            self._quiet_since = time.monotonic()

    def take(self) -> Line | None:
        """The line at hand."""
        line, self.head = self.head, None
        return line

    def has_lines(self) -> bool:
        """Whether a line waits to be given."""
        return self.head is not None or not self._queue.empty()

    def drained(self) -> bool:
        """Whether the pod has ended and every line of it was given."""
        return self._finished.is_set() and not self.has_lines()

    def holds_up(self, now: float) -> bool:
        """Whether this pod may still have a line that is older than the available ones."""
        return self.head is None and not self.drained() and now - self._quiet_since < _HOLD_SEC


def _chosen(pods: Pods, wanted: Wanted) -> Pods:
    chosen = [pod for pod in pods if wanted.ranks is None or not set(ranks_in(pod)).isdisjoint(wanted.ranks)]
    return sorted(chosen, key=rank_of)
