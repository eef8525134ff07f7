"""Status of a run on this machine, from its folder and the process table."""

from __future__ import annotations

import dataclasses

from cli.backends.local.records import Supervised
from cli.backends.local.run_folder import DamagedRunError, LocalRun
from cli.backends.run_status import RankStatus, RunStatus
from cli.humanize import parse_time
from tsp.config.store import StoreConfig
from tsp.run.processes import is_alive
from tsp.run.status import RunState


def local_status(local: LocalRun) -> RunStatus:
    """The outcome if there is one, else the state by its processes. Damage is reported as a state, never raised, so
    that lists continue."""
    try:
        return _read_status(local)
    except DamagedRunError as error:
        return RunStatus(name=local.name, state="damaged", reason=str(error), store=_known_store(local))


def _known_store(local: LocalRun) -> StoreConfig | None:
    try:
        launch = local.launch()
    except DamagedRunError:
        return None
    return launch.store if launch else None


def _read_status(local: LocalRun) -> RunStatus:
    launch, outcome, supervised = local.launch(), local.outcome(), None
    is_supervised = False
    if outcome is None:
        supervised = local.supervised()
        is_supervised = supervised is not None and is_alive(supervised.process)
        # Read again after looking at the process, which writes its outcome before it exits.
        outcome = local.outcome()
    if launch is None:
        return _status_of_unfinished_submit(local, is_supervised)
    status = RunStatus(
        name=local.name,
        state="pending",
        gpus=launch.gpus,
        created=parse_time(launch.created),
        store=launch.store,
        attempt=supervised.attempt if supervised else None,
        owner=launch.owner or None,
    )
    if outcome is not None:
        return status.with_outcome(outcome)
    if supervised is None or not is_supervised:
        who = f"its supervisor (process {supervised.pid})" if supervised else "its supervisor"
        reason = f"{who} is gone; continue with 'tspctl resume {local.name}'"
        return dataclasses.replace(status, state="crashed", reason=reason)
    return status if supervised.phase in ("submitting", "starting") else _with_ranks(status, supervised)


def _status_of_unfinished_submit(local: LocalRun, is_being_submitted: bool) -> RunStatus:
    if is_being_submitted:
        return RunStatus(name=local.name, state="pending", reason="it is being submitted")
    reason = f"its submission was interrupted before any rank started; delete it with 'tspctl delete {local.name}'"
    return RunStatus(name=local.name, state="crashed", reason=reason)


def _with_ranks(status: RunStatus, supervised: Supervised) -> RunStatus:
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
