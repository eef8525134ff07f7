"""The ranks of one attempt on this machine: start them, watch them, report how the attempt ended.

Problem: a rank that fails takes the others with it, so several end at once, and only one of them is the cause; a rank
that is killed cannot end its data workers; the supervisor itself may be killed.
Idea: every rank leads a process group of its own and gets SIGTERM from the kernel when the supervisor dies. After the
first end the others get a patience that depends on its exit code, and are then stopped.
Invariants: ends are reported in order, and only those that came by themselves count towards the cause; no process of a
group outlives its rank, as the group is killed before the rank is reaped (until then nobody can reuse its id).
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from cli.backends.local.processes import POLL_SEC, ProcessId, identify, kill_group, stop
from cli.backends.local.records import Launch, RankProcess
from tsp.run.status import PEER_LOST, TERMINATED, RankEnd, is_permanent, root_cause

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_AFTER_GOOD_END_SEC = 300.0
"""How long the other ranks may take once one has succeeded."""
_AFTER_PEER_LOST_SEC = 10.0
"""How long the lost rank may take to report why, once another has reported a lost peer."""


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


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rank_environment(launch: Launch, rank: int, *, config: Path, port: int) -> dict[str, str]:
    """Environment of a rank; as in a pod, each rank sees one GPU, so its local rank is 0."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "TSP_CONFIG": str(config),
        "TSP_NUM_THREADS": str(max(1, cores // launch.gpus)),
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(launch.gpus),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": launch.devices[rank] if launch.devices else "",
        "PYTHONUNBUFFERED": "1",
    }


class RankGroup:
    """The processes of one attempt."""

    def __init__(self, launch: Launch, *, config: Path, console: Path) -> None:
        self.launch = launch
        self.grace_sec = launch.grace_sec
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ranks: list[RankProcess] = []
        console.mkdir(parents=True, exist_ok=True)
        port = free_port()
        for rank in range(launch.gpus):
            environment = rank_environment(launch, rank, config=config, port=port)
            with (console / f"rank-{rank}.log").open("ab") as log:
                self._start(rank, environment, log)

    def _start(self, rank: int, environment: dict[str, str], log: IO[bytes]) -> None:
        process = subprocess.Popen(
            self.launch.command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Its own group, so that data workers can be killed with their rank.
            process_group=0,
            preexec_fn=_end_with(os.getpid()),
        )
        self.processes.append(process)
        known = identify(process.pid) or ProcessId(process.pid, "gone")
        device = f"cuda:{environment['CUDA_VISIBLE_DEVICES']}" if self.launch.devices else "cpu"
        self.ranks.append(RankProcess(rank=rank, pid=known.pid, started=known.started, device=device))

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
        codes = [(rank, _ended(process)) for rank, process in enumerate(self.processes) if rank not in known]
        ends = [RankEnd(rank, code if code >= 0 else 128 - code) for rank, code in codes if code is not None]
        # Among ranks that ended within one interval, one that was killed (137) is the cause.
        return sorted(ends, key=lambda end: end.code != 128 + signal.SIGKILL)

    def _end_all(self) -> None:
        left = [r.process for r, process in zip(self.ranks, self.processes, strict=True) if _ended(process) is None]
        stop(left, self.grace_sec)
        while any(_ended(process) is None for process in self.processes):
            time.sleep(POLL_SEC)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Exit code of a rank, None while it runs; the rest of its group (data workers, fork server) is killed with it.

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


def _end_with(parent_pid: int) -> Callable[[], None]:
    """Prepare the child: it gets SIGTERM when the supervisor dies, and then saves its state and exits."""

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent_pid:
                os._exit(TERMINATED)

    return prepare
