"""The ranks of one pod: which ones it holds, and how a pod with several GPUs runs one rank per GPU.

The problem: NCCL uses NVLink and shared memory only between processes of one pod.
The idea: the first process of such a pod does not load torch; it starts a rank for each of its GPUs, forwards their
output line by line, prefixed with the rank, and exits with the code of the rank that caused the failure.
Invariants: rank = index of the pod x ranks per pod + local rank; each rank sees one GPU; with one rank per pod there is
no such process.

    python -m tsp.run.pod_ranks LOCAL_RANK COMMAND...   a command with the environment of that rank of this pod
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import IO

from tsp.config.cards import NEEDS_GPU
from tsp.config.cpus import THREADS_BESIDE_GPU, rank_cpus, usable_cpus
from tsp.config.variables import MOST_PORT, whole_number
from tsp.errors import ConfigError
from tsp.run.rank_group import RankCommand, RankGroup, judge, last_words, rank_environment
from tsp.run.status import describe_end

RANKS_VARIABLE = "TSP_RANKS_PER_POD"
"""Set by the chart if it is more than one."""
TRAINER_VARIABLES = {
    "RANK": "PET_NODE_RANK",
    "WORLD_SIZE": "PET_NNODES",
    "MASTER_ADDR": "PET_MASTER_ADDR",
    "MASTER_PORT": "PET_MASTER_PORT",
}
"""What the training operator sets, and what Kubeflow Trainer sets instead: it means pods by nodes."""
MASTER_PORT = 29500
"""torch's own default."""
GRACE_SEC = 120.0
"""How long the other ranks have to save their state once one has failed."""
_UNTIL_KILLED_SEC = 86400.0
"""The kubelet kills a terminating pod after its grace period; nothing here needs to."""
_MAX_LINE_BYTES = 1 << 20
_KEPT_LINES = 50


def pod_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the names that torch uses, whichever controller made the pod."""
    found = dict(environment)
    if not found.get("RANK"):
        found |= {name: found[other] for name, other in TRAINER_VARIABLES.items() if other in found}
    return found


def ranks_per_pod(environment: Mapping[str, str]) -> int:
    """How many ranks a pod holds.

    Raises: ConfigError naming the variable.
    """
    return whole_number(environment, RANKS_VARIABLE, 1, least=1)


def member_of(environment: Mapping[str, str]) -> tuple[int, int]:
    """RANK and WORLD_SIZE: which of how many; one alone if they are not set.

    Raises: ConfigError if they contradict each other: two members that take themselves for the first would both write.
    """
    size = whole_number(environment, "WORLD_SIZE", 1, least=1)
    if size > 1 and not environment.get("RANK"):
        raise ConfigError(f"the variable WORLD_SIZE is {size}, but RANK is not set")
    number = whole_number(environment, "RANK", 0)
    if number >= size:
        raise ConfigError(f"the variable RANK is {number}, but WORLD_SIZE is {size}: RANK counts from 0")
    return number, size


@dataclass(frozen=True, kw_only=True, slots=True)
class PodRanks:
    """The ranks of one pod."""

    pod: int
    pods: int
    per_pod: int
    environment: Mapping[str, str]

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> PodRanks:
        """From the variables of a pod (``pod_environment``).

        Raises: ConfigError naming the variable.
        """

        pod, pods = member_of(environment)
        whole_number(environment, "MASTER_PORT", MASTER_PORT, least=1, most=MOST_PORT)
        return cls(pod=pod, pods=pods, per_pod=ranks_per_pod(environment), environment=environment)

    @property
    def ranks(self) -> range:
        """Numbers of the ranks."""
        return range(self.pod * self.per_pod, (self.pod + 1) * self.per_pod)

    def environment_of(self, local_rank: int) -> dict[str, str]:
        """Variables of one rank, in addition to the pod's own."""
        own = rank_environment(
            self.ranks[local_rank],
            self.pods * self.per_pod,
            master_addr=self.environment.get("MASTER_ADDR") or "127.0.0.1",
            master_port=whole_number(self.environment, "MASTER_PORT", MASTER_PORT),
            device=self._device(local_rank),
            num_threads=self._threads(),
            cpus=self._cpus(),
        )
        given = self.environment.get("TSP_NUM_THREADS")
        return {**own, RANKS_VARIABLE: "1", **({"TSP_NUM_THREADS": given} if given else {})}

    def _device(self, local_rank: int) -> str:
        """Its GPU in CUDA_VISIBLE_DEVICES: the pod sees only its own GPUs, counted from 0."""
        visible = [name for name in self.environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        return visible[local_rank] if local_rank < len(visible) else str(local_rank)

    def _threads(self) -> int:
        share = max(1, usable_cpus() // self.per_pod)
        return min(share, THREADS_BESIDE_GPU) if self.environment.get(NEEDS_GPU) else share

    def _cpus(self) -> int:
        return max(1, rank_cpus(self.environment) // self.per_pod)


def run_ranks(ranks: PodRanks, command: Sequence[str]) -> int:
    """Run every rank of a pod to its end.

    Args: command, of one rank.
    Returns: the exit code of the rank that caused the failure, 0 if all succeeded.
    """
    stopping = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    console = _Console(sys.stderr.buffer)
    group = RankGroup(
        command,
        [RankCommand(rank=rank, environment=ranks.environment_of(local)) for local, rank in enumerate(ranks.ranks)],
        output=console.of,
        grace_sec=GRACE_SEC,
    )

    def is_stopping() -> bool:
        if stopping.is_set():
            group.grace_sec = _UNTIL_KILLED_SEC
        return stopping.is_set()

    verdict = judge(group.watch(is_stopping))
    console.drain()
    if verdict.kind != "succeeded":
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        end = describe_end(verdict.cause, last_words(console.kept[verdict.cause.rank]))
        _, _, words = end.partition(f"rank {verdict.cause.rank} ")
        console.write(f"{stamp} rank {verdict.cause.rank} ERROR {words}\n".encode())
    return verdict.cause.code if verdict.kind != "succeeded" else 0


class _Console:
    """Forwards the output of ranks in whole lines, each prefixed with its rank."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target, self._lock = target, threading.Lock()
        self._readers: list[threading.Thread] = []
        self.kept: dict[int, deque[str]] = {}
        """Rank -> its last lines."""

    @contextmanager
    def of(self, rank: int) -> Iterator[IO[bytes]]:
        """A pipe for one rank, which stays open until the child and its workers have ended."""
        reading, writing = os.pipe()
        self.kept[rank] = deque(maxlen=_KEPT_LINES)
        with os.fdopen(writing, "wb") as pipe:
            yield pipe
        reader = threading.Thread(target=self._pass_on, args=(rank, reading), daemon=True)
        self._readers.append(reader)
        reader.start()

    def _pass_on(self, rank: int, reading: int) -> None:
        has_rank = re.compile(rb"(?:\S+Z )?rank %d " % rank)
        with os.fdopen(reading, "rb") as pipe:
            while line := pipe.readline(_MAX_LINE_BYTES):
                self.kept[rank].append(line.decode(errors="replace"))
                whole = line if line.endswith(b"\n") else line + b"\n"
                self.write(whole if has_rank.match(whole) else b"rank %d " % rank + whole)

    def write(self, line: bytes) -> None:
        """One whole line."""
        with self._lock:
            self._target.write(line)
            self._target.flush()

    def drain(self, timeout_sec: float = 10.0) -> None:
        """Wait until everything that was written has been forwarded."""
        for reader in self._readers:
            reader.join(timeout_sec)


def main(arguments: Sequence[str]) -> None:
    """Become a command in the environment of a rank of this pod."""
    local_rank, *command = arguments
    ranks = PodRanks.from_env(pod_environment(os.environ))
    os.execvpe(command[0], command, {**os.environ, **ranks.environment_of(int(local_rank))})


if __name__ == "__main__":
    main(sys.argv[1:])
