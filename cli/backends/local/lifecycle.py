"""Stopping, resuming and deleting runs of this machine, with or without a running supervisor.

Problem: the supervisor may be starting, running, writing the outcome, killed, or gone with its ranks still alive.
Idea: send a request to a live supervisor and wait for it; do its work here only if there is none.
Invariants: two supervisors never share a run, so ``resume`` and ``delete`` claim it and wait until none is left; the
process of a submit is never signalled; ranks that outlived their supervisor are handed to the next one, which stops
them first.
"""

from __future__ import annotations

import signal
import time

from cli.backends.local.claim import claimed
from cli.backends.local.launch import START_TIMEOUT_SEC, launch_of, machine_name, new_owner, start_supervisor
from cli.backends.local.records import Launch, StopRequest, StopState
from cli.backends.local.run_folder import DamagedRunError, LocalRun
from cli.backends.local.status import local_status
from cli.backends.local.supervisor import publish_outcome
from cli.backends.run_status import RunStatus
from cli.stores import Stores
from tsp.config.run import RunConfig, to_json
from tsp.errors import ConfigError, NoSuchRunError, StoreError, TspError
from tsp.run.ownership import owner_of, refuse_anothers, take
from tsp.run.processes import POLL_SEC, is_alive, send, stop, wait_gone
from tsp.run.rank_group import RankProcess
from tsp.run.records import Outcome
from tsp.run.status import ACTIVE, TERMINATED
from tsp.run.stored_run import StoredRun

GRACE_SEC = 120.0
"""Time to save state and drain uploads, unless a command says otherwise."""
_LAST_MOMENT_SEC = 5.0
_AFTER_OUTCOME_SEC = 120.0
"""A supervisor that has recorded the outcome ends by itself, late where the machine is busy."""
_AFTER_GRACE_SEC = 30.0
"""The supervisor needs this long, beyond the grace period of the ranks, to record the outcome."""


def stop_run(local: LocalRun, stores: Stores, state: StopState, grace_sec: float | None) -> None:
    """Stop a run, its state saved; returns once the outcome ``state`` is recorded.

    Raises: NoSuchRunError; ConfigError if it has ended already; TspError if it does not stop.
    """
    _wait_for_submit(local)
    launch, supervised = local.launch(), local.supervised()
    if launch is None:
        raise NoSuchRunError(f"no run {local.name!r} was started on this machine: see 'tspctl list'")
    current = _settled(readable_status(local), launch, stores).state
    if current in ("succeeded", "failed", "cancelled", state):
        raise ConfigError(f"run {local.name} has already ended ({current})")
    request = StopRequest(state=state, grace_sec=GRACE_SEC if grace_sec is None else grace_sec)
    local.ask_to_stop(request)
    if supervised is not None and is_alive(supervised.process):
        send(supervised.process, signal.SIGTERM)
        if not wait_gone([supervised.process], request.grace_sec + _AFTER_GRACE_SEC):
            raise TspError(f"run {local.name} does not stop: see {local.folder / 'supervisor.log'}")
        return
    if supervised is not None:
        stop([rank.process for rank in supervised.ranks], request.grace_sec)
    _record_outcome(local, launch, state, supervised.attempt if supervised else 0)


def resume_run(local: LocalRun, stores: Stores, config: RunConfig | None, *, force: bool = False) -> None:
    """Start a supervisor again; the ranks find the newest state in the store.

    Args: config, as the store has it; None: as this machine has it; force, even if another machine may train it.
    Raises: NoSuchRunError if neither has it; ConfigError while a supervisor runs; HeldElsewhereError.
    """
    if config is None:
        config = local.config()
        if config is None:
            raise NoSuchRunError(
                f"the configuration of run {local.name} is missing, both in its store and on this machine: remove "
                f"it with 'tspctl delete {local.name}' and submit it again"
            )
    run = stores.run(config.store, local.name)
    owner = _owner_here(local, run)
    again = run.with_more_attempts(config)
    if not force:
        refuse_anothers(run, owner)
    is_new = not local.exists()
    if is_new:
        # Started on another machine, or deleted here.
        local.reserve()
    with claimed(local):
        if not is_new and not _becomes_unsupervised(local):
            raise ConfigError(
                f"run {local.name} still has a supervisor: stop it first with 'tspctl cancel {local.name}'"
            )
        local.note_submitter(_orphaned_ranks(local))
        local.write_launch(launch_of(config, owner), to_json(again))
        local.forget_end()
        take(run, owner, force=force)
        start_supervisor(local)


def _owner_here(local: LocalRun, run: StoredRun) -> str:
    """What this machine is called as the one that trains the run."""
    try:
        former = local.launch()
    except DamagedRunError:
        # Then the store decides; no process of the run is active here, which is checked elsewhere.
        found = owner_of(run) or ""
        return found if found.startswith(f"{machine_name()} ") else new_owner()
    return (former.owner if former else "") or new_owner()


def delete_run(local: LocalRun) -> None:
    """Remove the folder of a run that has ended.

    Raises: ConfigError while it runs or has a supervisor.
    """
    if local_status(local).state in ACTIVE:
        raise ConfigError(f"run {local.name} is still running: stop it first with 'tspctl cancel {local.name}'")
    with claimed(local):
        if not _becomes_unsupervised(local):
            raise ConfigError(
                f"run {local.name} still has a supervisor process, which holds {local.folder}/lock: end it first"
            )
        # Ranks of a killed supervisor may still be saving their state, into a store that is deleted next.
        stop([rank.process for rank in _orphaned_ranks(local)], GRACE_SEC)
        local.remove()


def readable_status(local: LocalRun) -> RunStatus:
    """The status of a run whose files can all be read.

    Raises: ConfigError naming the file that cannot, and the way out.
    """
    status = local_status(local)
    if status.state == "damaged":
        raise ConfigError(str(status.reason))
    return status


def _settled(status: RunStatus, launch: Launch, stores: Stores) -> RunStatus:
    """A crashed run has ended where its ranks recorded so in the store."""
    if status.state != "crashed":
        return status
    try:
        return status.settled_by(stores.run(launch.store, launch.name).read_outcome())
    except StoreError:
        return status


def _becomes_unsupervised(local: LocalRun) -> bool:
    """Whether no supervisor is left; one that has recorded the outcome needs a moment to exit."""
    began = time.monotonic()
    while local.is_supervised():
        limit_sec = _AFTER_OUTCOME_SEC if local.has_outcome() else _LAST_MOMENT_SEC
        if time.monotonic() - began > limit_sec:
            return False
        time.sleep(POLL_SEC)
    return True


def _wait_for_submit(local: LocalRun) -> None:
    """Wait for a submit in progress: its process must not be stopped."""
    deadline = time.monotonic() + START_TIMEOUT_SEC
    while time.monotonic() < deadline:
        supervised = local.supervised()
        if supervised is None or supervised.phase != "submitting" or not is_alive(supervised.process):
            return
        time.sleep(POLL_SEC)


def _orphaned_ranks(local: LocalRun) -> tuple[RankProcess, ...]:
    """Ranks of the last attempt, which may outlive a supervisor that was killed."""
    try:
        supervised = local.supervised()
    except DamagedRunError:
        return ()
    return supervised.ranks if supervised else ()


def _record_outcome(local: LocalRun, launch: Launch, state: StopState, attempt: int) -> None:
    """Record the outcome of a run that has no supervisor to do it."""
    outcome = Outcome(
        state=state, exit_code=TERMINATED, reason="stopped on request while no rank was running", attempt=attempt
    )
    publish_outcome(launch, outcome)
    local.write_outcome(outcome)
