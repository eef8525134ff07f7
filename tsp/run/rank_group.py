"""Ranks that are processes of one parent: start them, watch them, report how their attempt ended.

The parent is the supervisor of a run on this machine, or the first process of a pod that holds several GPUs.
Problem: a failing rank makes the others fail, so several end at once, and only one of them is the cause; a killed rank
cannot end its data workers; the parent itself may be killed.
Idea: every rank leads its own process group and gets SIGTERM from the kernel when its parent dies. After the first rank
has ended, the others have a time limit that depends on its exit code, and are then stopped.
Invariants: ends are reported in order, and only ranks that ended by themselves can be the cause; no process of a group
outlives its rank, since the group is killed before the rank is reaped (until then its id cannot be reused).
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Literal

from tsp.config.address import masked
from tsp.config.cpus import CPUS_VARIABLE
from tsp.run.processes import POLL_SEC, ProcessId, identify, kill_group, stop
from tsp.run.status import PEER_LOST, TERMINATED, RankEnd, is_permanent, root_cause

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_AFTER_GOOD_END_SEC = 300.0
"""How long the other ranks may take once one has succeeded."""
_AFTER_PEER_LOST_SEC = 10.0
"""How long the lost rank may take to report why, once another has reported a lost peer."""
_REASON_CHARS = 300
_ERROR_LINE = re.compile(r"\bERROR (?:[\w.]+: )?(.+)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended."""

    kind: Literal["succeeded", "permanent", "retry"]
    cause: RankEnd


def judge(ends: Sequence[RankEnd]) -> Verdict:
    """The verdict on the ranks that ended by themselves, in that order."""
    cause = root_cause(ends)
    if cause is None:
        return Verdict("succeeded", ends[0])
    return Verdict("permanent" if is_permanent(cause.code) else "retry", cause)


def last_words(lines: Iterable[str]) -> str:
    """The last error that a rank wrote, else its last line; shortened, and without secrets."""
    written = [line.strip() for line in lines if line.strip()]
    errors = [match[1] for line in written if (match := _ERROR_LINE.search(line))]
    words = masked((errors or written or [""])[-1])
    return words if len(words) <= _REASON_CHARS else words[:_REASON_CHARS] + "..."


@dataclass(frozen=True, kw_only=True, slots=True)
class RankProcess:
    """A rank of the present attempt."""

    rank: int
    pid: int
    started: str
    device: str

    @property
    def process(self) -> ProcessId:
        """Told by its start from a later process of the same id."""
        return ProcessId(self.pid, self.started)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCommand:
    """How one rank is started."""

    rank: int
    environment: Mapping[str, str] = field(repr=False)
    """Over the parent's own."""
    device: str = "cpu"
    """For status: ``cuda:0``."""


def rank_environment(
    rank: int, world_size: int, *, master_addr: str, master_port: int, device: str | None, num_threads: int, cpus: int
) -> dict[str, str]:
    """Variables that make a process rank ``rank``, which sees one GPU or none, so its local rank is 0.

    Args: device, what CUDA_VISIBLE_DEVICES calls the card; None: the ranks run on the CPU.
    """
    return {
        "TSP_NUM_THREADS": str(num_threads),
        CPUS_VARIABLE: str(cpus),
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": master_addr,
        "MASTER_PORT": str(master_port),
        "CUDA_VISIBLE_DEVICES": device or "",
        "PYTHONUNBUFFERED": "1",
    }


class RankGroup:
    """The processes of one attempt.

    Args: output, opens what a rank writes to; grace_sec, from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        command: Sequence[str],
        ranks: Iterable[RankCommand],
        *,
        output: Callable[[int], AbstractContextManager[IO[bytes]]],
        grace_sec: float,
    ) -> None:
        self.command, self.grace_sec = command, grace_sec
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ranks: list[RankProcess] = []
        for rank in ranks:
            with output(rank.rank) as log:
                self._start(rank, log)

    def _start(self, rank: RankCommand, log: IO[bytes]) -> None:
        process = subprocess.Popen(
            self.command,
            env={**os.environ, **rank.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Its own group, so that data workers can be killed with their rank.
            process_group=0,
            preexec_fn=end_with(os.getpid()),
        )
        self.processes.append(process)
        known = identify(process.pid) or ProcessId(process.pid, "gone")
        self.ranks.append(RankProcess(rank=rank.rank, pid=known.pid, started=known.started, device=rank.device))

    def watch(self, stopping: Callable[[], bool]) -> list[RankEnd]:
        """Wait for all ranks; the failure of one, or ``stopping``, stops the others.

        Returns: the ends in order; those of ranks that were stopped only if ``stopping`` was the reason.
        """
        ends: list[RankEnd] = []
        deadline = math.inf
        while len(ends) < len(self.processes) and not stopping() and time.monotonic() < deadline:
            time.sleep(POLL_SEC)
            new = self._newly_ended({end.rank for end in ends})
            ends += new
            deadline = min([deadline, *(time.monotonic() + _patience_sec(end) for end in new)])
        by_themselves = list(ends)
        self._end_all()
        ends += self._newly_ended({end.rank for end in ends})
        return ends if stopping() else by_themselves

    def _newly_ended(self, known: set[int]) -> list[RankEnd]:
        pairs = zip(self.ranks, self.processes, strict=True)
        codes = [(of.rank, _ended(process)) for of, process in pairs if of.rank not in known]
        ends = [RankEnd(rank, code if code >= 0 else 128 - code) for rank, code in codes if code is not None]
        # Among ranks that ended within one interval, one that was killed (137) is the cause.
        return sorted(ends, key=lambda end: end.code != 128 + signal.SIGKILL)

    def _end_all(self) -> None:
        left = [r.process for r, process in zip(self.ranks, self.processes, strict=True) if _ended(process) is None]
        stop(left, self.grace_sec)
        while any(_ended(process) is None for process in self.processes):
            time.sleep(POLL_SEC)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Exit code of a rank, None while it runs; its remaining group (data workers, fork server) is killed with it.

    A killed rank cannot stop its workers, and under forkserver these watch the server instead of the rank.
    """
    if process.returncode is None and hasattr(os, "waitid"):
        # Not reaped yet, so that its id cannot be reused before its group is gone.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        kill_group(process.pid)
    return process.poll()


def _patience_sec(end: RankEnd) -> float:
    """How long the other ranks may continue after this end."""
    return {0: _AFTER_GOOD_END_SEC, PEER_LOST: _AFTER_PEER_LOST_SEC}.get(end.code, POLL_SEC)


def end_with(parent_pid: int) -> Callable[[], None]:
    """Prepares a child process: it gets SIGTERM when its parent dies, and then saves its state and exits."""

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent_pid:
                os._exit(TERMINATED)

    return prepare
