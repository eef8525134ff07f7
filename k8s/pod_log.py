"""The log of one pod as lines with their times, over any number of broken connections.

A log stream of the API can end at any moment: the API server restarts, a proxy times out, or the kubelet rotates the
file and goes silent (https://github.com/kubernetes/kubernetes/issues/115701). In each case the log is read again from
the last second seen (``sinceTime`` has no fractions), and lines that were already returned are skipped.
"""

from __future__ import annotations

import heapq
import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from k8s.answers import ForbiddenError, NotFoundError
from k8s.names import Object, main_container_of
from k8s.status import pod_status
from tsp.errors import ClusterError, UnreachableError

logger = logging.getLogger(__name__)

IDLE_SEC = 60.0
"""A followed stream that is silent for that long is reopened."""
MAX_LINE_BYTES = 1 << 20
"""A longer line is given in parts."""
_WINDOW_LINES = 4096
_RETRY_SEC = (0.2, 0.5, 1.0, 2.0)
_GIVE_UP_AFTER = 30
"""Failures in a row, about a minute, after which the log of a pod that has ended counts as lost with its node."""
_KUBELETS = re.compile(rb"unable to retrieve container logs for \S+$|failed to (try resolving symlinks|open log file) ")
"""What a kubelet appends where a container is gone: an error as text, after the status of a success."""
_RANK = re.compile(r"(?:\S+Z )?rank (\d+) ")
"""With which each line of a pod with several ranks begins (``tsp.run.pod_ranks``)."""
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One line of one rank."""

    time_ns: int
    """Since 1970, by the node's clock."""
    rank: int
    text: str = field(compare=False)

    @property
    def time(self) -> datetime:
        """The same, with a time zone."""
        return datetime.fromtimestamp(self.time_ns / 1e9, UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which lines."""

    ranks: tuple[int, ...] | None = None
    tail: int | None = None
    since: datetime | None = None
    previous: bool = False


class PodApi(Protocol):
    """What reading one pod's log needs of a cluster."""

    def pod(self, name: str) -> dict[str, Any]:
        """The pod as it is now. Raises: NotFoundError, UnreachableError."""
        ...

    def read_log(self, pod: str, *, idle_sec: float, **query: Any) -> Iterator[bytes]:
        """As ``Cluster.read_log``."""
        ...


class PodLog:
    """Reads the main container of one pod.

    Args: follow, continue until the container has ended for good or the pod is gone; else return what exists now; stop,
    ends the following from outside.
    """

    def __init__(
        self, api: PodApi, pod: Object, wanted: Wanted, *, follow: bool, stop: threading.Event | None = None
    ) -> None:
        self._api, self._status = api, pod_status(pod)
        self._follow, self._stop = follow and not wanted.previous, stop or threading.Event()
        self._ranks = wanted.ranks
        # The ranks of a pod share one log, in which the position of each rank's last lines is unknown.
        self._tail = wanted.tail if len(self._status.ranks) > 1 else None
        self._seen, self._rest, self._failures = _Seen(), b"", 0
        # Checked before the log is requested: only then the log is complete.
        self._over = not self._follow or _is_over(pod)
        self._done = self._has_lines = False
        self._query: dict[str, Any] = {
            "container": main_container_of(pod)["name"],
            "timestamps": True,
            "follow": self._follow,
            "previous": wanted.previous,
            "tailLines": wanted.tail if self._tail is None else None,
            "sinceTime": wanted.since and _rfc3339(wanted.since.timestamp()),
        }

    def lines(self) -> Iterator[Line]:
        """Every line once.

        Raises: ForbiddenError; UnreachableError where the log of an ended pod, or of one not followed, stays away.
        """
        while not (self._stop.is_set() or self._done):
            try:
                yield from self._read() if self._tail is None else self._read_tail(self._tail)
            except ForbiddenError:
                raise
            except NotFoundError:
                return
            except UnreachableError as error:
                logger.debug("%s", error)
                if self._over and self._failures >= (_GIVE_UP_AFTER if self._follow else len(_RETRY_SEC)):
                    raise
            except ClusterError as error:
                # The container waits to start; without following there is nothing to read.
                logger.debug("%s", error)
                self._done = self._over
            if not self._done:
                self._prepare_again()

    def _read(self) -> Iterator[Line]:
        """One connection, to its end."""
        self._rest = b""
        for chunk in self._api.read_log(self._status.name, idle_sec=IDLE_SEC, **self._query):
            for raw in self._whole_lines(chunk):
                self._failures = 0
                if self._seen.is_new(raw):
                    yield from self._wanted_line(raw)
        if self._over:
            # A line without an end counts only now: before, the connection may have been cut within it.
            if self._rest and self._seen.is_new(self._rest):
                yield from self._wanted_line(self._rest)
            self._done = True

    def _read_tail(self, num_lines: int) -> Iterator[Line]:
        """The last lines of each rank of what is there now; what is followed comes after them."""
        query, failure = self._query, None
        self._tail, self._query = None, {**query, "follow": False}
        kept: dict[int, deque[Line]] = {}
        try:
            for line in self._read():
                kept.setdefault(line.rank, deque(maxlen=num_lines)).append(line)
        except ClusterError as error:
            failure = error
        self._query = query
        yield from heapq.merge(*kept.values())
        if failure is not None:
            raise failure

    def _wanted_line(self, raw: bytes) -> Iterator[Line]:
        """A line, unless it is of a rank that is not wanted, or of no rank at all."""
        time_ns, length = _stamp_ns(raw)
        if not length and _KUBELETS.match(raw):
            level = logging.DEBUG if self._has_lines else logging.WARNING
            logger.log(level, "%s: %s", self._status.name, raw.decode(errors="replace"))
            return
        self._has_lines = True
        text, ranks = raw[length:].decode(errors="replace"), self._status.ranks
        of_rank = _RANK.match(text) if len(ranks) > 1 else None
        rank = int(of_rank[1]) if of_rank is not None and int(of_rank[1]) in ranks else ranks.start
        if self._ranks is None or rank in self._ranks:
            yield Line(time_ns, rank, text)

    def _whole_lines(self, chunk: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
        if len(self._rest) > MAX_LINE_BYTES:
            # Its next part keeps the stamp, so that it stays in order.
            stamp = _STAMP.match(self._rest)
            yield self._rest
            self._rest = stamp[0] if stamp else b""

    def _prepare_again(self) -> None:
        """Wait a little, check the pod, and request the log from the last second on."""
        self._stop.wait(_RETRY_SEC[min(self._failures, len(_RETRY_SEC) - 1)])
        self._failures += 1
        if self._seen.last_ns:
            self._query |= {"tailLines": None, "sinceTime": _rfc3339(self._seen.last_ns // 10**9 - 1)}
            self._seen.expect_again()
        if not self._follow:
            return
        try:
            pod = self._api.pod(self._status.name)
        except NotFoundError:
            self._done = True
        except UnreachableError as error:
            logger.debug("%s", error)
        else:
            # Another pod of that name has a log of its own.
            self._done = pod_status(pod).uid != self._status.uid
            self._over = self._over or _is_over(pod)


def _is_over(pod: Object) -> bool:
    return pod_status(pod).state in ("succeeded", "failed")


class _Seen:
    """The last lines given, so that they are not given again."""

    def __init__(self) -> None:
        self._window: deque[tuple[int, int]] = deque(maxlen=_WINDOW_LINES)
        self._again: Counter[tuple[int, int]] = Counter()
        self._before_ns = 0
        self.last_ns = 0

    def expect_again(self) -> None:
        """The log is read again: every line of the window may come once more."""
        self._again = Counter(self._window)
        self._before_ns = min(self._window)[0] if len(self._window) == _WINDOW_LINES else 0

    def is_new(self, raw: bytes) -> bool:
        """Whether a line (with its stamp) was not given yet; it then counts as given."""
        time_ns = _stamp_ns(raw)[0] or self.last_ns
        key = (time_ns, hash(raw))
        if self._again[key] > 0:
            self._again[key] -= 1
            return False
        if time_ns < self._before_ns:
            return False
        self._window.append(key)
        self.last_ns = max(self.last_ns, time_ns)
        return True


def _stamp_ns(raw: bytes) -> tuple[int, int]:
    """Nanoseconds since 1970 that a line starts with, and the length of that stamp; zeros if it has none."""
    match = _STAMP.match(raw)
    if match is None:
        return 0, 0
    seconds = datetime.fromisoformat((match[1] + match[3]).decode()).timestamp()
    return int(seconds) * 10**9 + int((match[2] or b"0").ljust(9, b"0")), match.end()


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
