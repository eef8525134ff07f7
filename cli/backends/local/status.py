"""How a run on this machine is doing: its files and the table of processes, nothing else."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from cli.backends.base import RankStatus, RunStatus
from cli.backends.local.processes import is_alive
from cli.backends.local.run_folder import LocalRun
from tsp.run.status import RunState


def local_status(local: LocalRun) -> RunStatus:
    """Outcome first, then who lives; a dead supervisor without an outcome is a crash."""
    launch, supervised = local.launch(), local.supervised()
    alive = supervised is not None and is_alive(supervised.process)
    # Read after looking at the process: it writes its outcome before it ends.
    outcome = local.outcome()
    assert launch is not None
    status = RunStatus(
        name=local.name,
        state="pending",
        gpus=launch.gpus,
        created=datetime.fromisoformat(launch.created),
        store=launch.store,
        attempt=supervised.attempt if supervised else None,
    )
    if outcome is not None:
        return dataclasses.replace(
            status,
            state=outcome.state,
            reason=None if outcome.state == "succeeded" else outcome.reason,
            exit_code=outcome.exit_code,
            attempt=outcome.attempt,
            ended=datetime.fromisoformat(outcome.ended),
        )
    if supervised is not None and not alive:
        reason = f"its supervisor (process {supervised.pid}) is gone; go on with 'tspctl resume {local.name}'"
        return dataclasses.replace(status, state="crashed", reason=reason)
    if supervised is None or supervised.phase == "starting":
        return status
    ranks = tuple(
        RankStatus(
            rank=rank.rank,
            state="running" if is_alive(rank.process) else "ended",
            where=f"pid {rank.pid}",
            gpu=rank.device,
            restarts=supervised.attempt - 1,
        )
        for rank in supervised.ranks
    )
    state: RunState = "restarting" if supervised.phase == "restarting" else "running"
    return dataclasses.replace(status, state=state, reason=supervised.reason, ranks=ranks)
