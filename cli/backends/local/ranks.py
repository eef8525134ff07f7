"""The ranks of a run on this machine: their environment, and where they write."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import IO

from cli.backends.local.records import Launch
from tsp.config.cpus import auto_workers, usable_cpus
from tsp.config.run import RunConfig
from tsp.run.log_files import log_name
from tsp.run.ownership import OWNER_VARIABLE
from tsp.run.rank_group import RankCommand, RankGroup, rank_environment


def start_ranks(launch: Launch, *, config: Path, console: Path) -> RankGroup:
    """Start every rank of an attempt; each writes to ``console/rank-R.log``."""
    console.mkdir(parents=True, exist_ok=True)

    def log_of(rank: int) -> IO[bytes]:
        return (console / log_name(rank)).open("ab")

    port = free_port()
    ranks = [
        RankCommand(
            rank=rank,
            environment=environment_of(launch, rank, config=config, port=port),
            device=f"cuda:{launch.devices[rank]}" if launch.devices else "cpu",
        )
        for rank in range(launch.gpus)
    ]
    return RankGroup(launch.command, ranks, output=log_of, grace_sec=launch.grace_sec)


def environment_of(launch: Launch, rank: int, *, config: Path, port: int) -> dict[str, str]:
    """Variables of one rank; as in a pod, it sees one GPU."""
    own = rank_environment(
        rank,
        launch.gpus,
        master_addr="127.0.0.1",
        master_port=port,
        device=launch.devices[rank] if launch.devices else None,
        num_threads=cpus_of_rank(launch.gpus),
        cpus=cpus_of_rank(launch.gpus),
    )
    return {"TSP_CONFIG": str(config), OWNER_VARIABLE: launch.owner, **own}


def cpus_of_rank(ranks: int) -> int:
    """CPUs of this machine for each of this many ranks."""
    return max(1, usable_cpus() // ranks)


def workers_line(config: RunConfig) -> tuple[str, ...]:
    """The number of a rank's data workers, if it was not set."""
    if config.data.workers is not None:
        return ()
    return (f"data workers: {auto_workers(cpus_of_rank(config.gpus))} per rank ({usable_cpus()} CPUs here)",)


def free_port() -> int:
    """A free TCP port on 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
