"""Runs on this machine: a detached supervisor per run, one process per rank, the store as the truth."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cli.backends.base import BackendOptions, Check, JobEnd, LogLine, LogQuery, Plan, RunStatus
from cli.backends.local.gpus import gpus_here
from cli.backends.local.jobs import run_job_here
from cli.backends.local.paths import with_absolute_paths
from cli.backends.local.preflight import MODULES, check_data, check_gpus, check_modules, check_store
from cli.backends.local.processes import POLL_SEC, is_alive, send, stop, wait_gone
from cli.backends.local.rank_group import rank_environment
from cli.backends.local.run_folder import (
    DamagedRunError,
    Launch,
    LocalRun,
    RankProcess,
    StopRequest,
    StopState,
    known_run,
    known_runs,
    local_run,
    state_home,
)
from cli.backends.local.status import local_status
from cli.backends.local.supervisor import publish_outcome
from cli.backends.log_lines import FolderLogs, read_lines
from cli.options.store import absolute_unless_uri
from tsp.config.job import Job
from tsp.config.jobs import EncodingJob
from tsp.config.run import RunConfig, StoreConfig, to_json
from tsp.config.sizing import downscale_for, effective_sizes
from tsp.errors import ConfigError, NoSuchRunError, TspError
from tsp.run.records import Outcome
from tsp.run.status import ENDED, Finding
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store

logger = logging.getLogger(__name__)

ENTRYPOINT = (sys.executable, "-P", "-m", "tsp.entrypoint")
"""Program of a rank; -P keeps a folder called tsp in the user's current folder from hiding ours."""
_START_TIMEOUT_SEC = 20.0
_GRACE_SEC = 120.0
"""Time to save state and drain uploads, unless a command says otherwise."""
_LAST_MOMENT_SEC = 5.0
_AFTER_GRACE_SEC = 30.0
"""The supervisor needs this long, beyond the grace of the ranks, to write down the end."""


class LocalBackend:
    """Runs on this machine."""

    name = "local"
    list_sec = None

    def names(self) -> Iterator[str]:
        """Every run started on this machine, newest first."""
        return (local.name for local in known_runs())

    def holds(self, name: str) -> bool:
        """Whether a run of that name was started here."""
        return known_run(name) is not None

    def refuse_ignored(self, given: Mapping[str, Any]) -> None:
        """All that is about pods and charts."""
        for option, value in given.items():
            if value:
                raise ConfigError(f"{option} does nothing on this machine: leave it out, or send it to a cluster")

    def store_from_here(self, recorded: StoreConfig) -> StoreConfig:
        """As it was recorded: the ranks run here."""
        return recorded

    def with_job_paths(self, values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        """Absolute: a job's answer names files, and its shards may run elsewhere."""
        return values | {key: absolute_unless_uri(values[key]) for key in keys if key in values}

    def with_paths(self, config: RunConfig, dataset: str) -> RunConfig:
        """Absolute: ranks run in folders of their own."""
        return with_absolute_paths(config)

    def plan(self, config: RunConfig, options: BackendOptions) -> Plan:
        """Size the run for the smallest card it will use."""
        cards = gpus_here()[: config.gpus]
        sizes_mib = [card.memory_mib for card in cards if card.memory_mib is not None]
        if config.downscale != "auto":
            factor, why = int(config.downscale), "as asked for"
        elif not cards:
            factor, why = 1, "no GPU here, ranks run on the CPU"
        elif sizes_mib:
            factor, why = downscale_for(min(sizes_mib)), f"smallest of {len(cards)} GPUs has {min(sizes_mib)} MiB"
        else:
            return Plan(config=config, options=options, explanation=("downscale factor: the ranks decide",))
        sizes = effective_sizes(config, downscale=factor)
        lines = (
            f"downscale factor {factor}: {why}",
            str(sizes),
        )
        return Plan(config=config, options=options, effective=sizes, explanation=lines)

    def checks(self, plan: Plan) -> Sequence[Check]:
        """Packages, cards, data, store and disk."""
        config = plan.config
        return (
            Check("packages", check_modules),
            Check("GPUs", lambda: check_gpus(config.gpus, len(gpus_here()))),
            Check("data", lambda: check_data(config)),
            Check("store", lambda: check_store(config)),
            Check("name", lambda: self._make_room(config)),
        )

    def render(self, plan: Plan, *, on_server: bool = False) -> str:
        """The configuration file that the ranks read."""
        return to_json(plan.config)

    def submit(self, plan: Plan) -> None:
        """Create the run in the store and start its supervisor.

        Interrupted at any moment it leaves nothing, or a run that ``list_runs`` shows and ``delete`` removes: what this
        machine knows is written first.
        """
        local = local_run(plan.config.name)
        local.reserve()
        try:
            local.write_launch(_launch(plan.config), to_json(plan.config))
            StoredRun(open_store(plan.config.store), plan.config.name).create(plan.config, plan.effective)
        except BaseException as error:
            _forget_after(local, error)
            raise
        _start_supervisor(local)

    def list_runs(self) -> Iterator[RunStatus]:
        """Every run started on this machine, newest first."""
        return (local_status(local) for local in known_runs())

    def status(self, name: str) -> RunStatus | None:
        """From the run's folder and the table of processes."""
        local = known_run(name)
        return None if local is None else local_status(local)

    def logs(self, name: str, query: LogQuery) -> Iterator[LogLine] | None:
        """What the ranks wrote to their consoles on this machine."""
        local = known_run(name)
        if local is None:
            return None

        def ended() -> bool:
            # A run that was deleted meanwhile writes nothing more.
            return not local.exists() or local_status(local).state in ENDED | {"suspended"}

        return read_lines(FolderLogs(local.console), query, ended=ended if query.follow else None)

    def cancel(self, name: str, *, grace_sec: float | None) -> None:
        """SIGTERM to the ranks through their supervisor."""
        self._stop(name, StopRequest(state="cancelled", grace_sec=_grace(grace_sec)))

    def suspend(self, name: str, *, grace_sec: float | None) -> None:
        """As cancel, with another outcome."""
        self._stop(name, StopRequest(state="suspended", grace_sec=_grace(grace_sec)))

    def resume(self, name: str, config: RunConfig | None) -> None:
        """Start a supervisor again; the ranks find the newest state in the store."""
        local = local_run(name)
        if config is None:
            config = local.config()
            if config is None:
                raise NoSuchRunError(
                    f"neither the store of run {name} nor this machine knows what it was made with: "
                    f"remove it with 'tspctl delete {name}' and submit it again"
                )
        again = StoredRun(open_store(config.store), name).with_more_attempts(config)
        if not local.exists():
            # Started on another machine, or forgotten here.
            local.reserve()
        elif not _ends_soon(local):
            raise ConfigError(f"run {name} still has a supervisor: stop it first with 'tspctl cancel {name}'")
        local.note_submitter(_ranks_left(local))
        local.write_launch(_launch(config), to_json(again))
        local.forget_end()
        _start_supervisor(local)

    def delete(self, name: str) -> None:
        """Forget the run's folder and console output."""
        local = known_run(name)
        if local is None:
            return
        if local_status(local).state in ("pending", "running", "restarting"):
            raise ConfigError(f"run {name} still runs: stop it first with 'tspctl cancel {name}'")
        if not _ends_soon(local):
            raise ConfigError(f"run {name} still has a supervisor, which holds {local.folder}/lock: end it first")
        local.remove()

    def execute(self, name: str, rank: int, command: Sequence[str]) -> int:
        """Run a command with the environment of a rank."""
        local = local_run(name)
        _readable_status(local)
        launch = local.launch()
        if launch is None:
            raise NoSuchRunError(f"no run {name!r} was started on this machine")
        if not 0 <= rank < launch.gpus:
            raise ConfigError(f"--rank {rank}: run {name} has the ranks 0 to {launch.gpus - 1}")
        environment = rank_environment(launch, rank, config=local.config_path, port=0)
        return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode

    def run_job(self, name: str, job: Job, options: BackendOptions, *, gpus: int) -> JobEnd | None:
        """In the foreground, one process per card."""
        check_modules()
        cards = gpus_here()
        if isinstance(job, EncodingJob):
            check_gpus(gpus, len(cards))
        elif gpus > 1:
            raise ConfigError(f"--shards {gpus} is for pods: on this machine --workers shares the videos")
        return run_job_here(ENTRYPOINT, job, gpus=gpus, devices=[card.device for card in cards])

    def versions(self) -> Mapping[str, str]:
        """Of the packages that train."""
        installed = {name for name in MODULES if importlib.util.find_spec(name) is not None}
        return {name: importlib.metadata.version(name) if name in installed else "not installed" for name in MODULES}

    def diagnose(self) -> Iterator[Finding]:
        """Packages, cards and the folder of local runs."""
        for module in MODULES:
            if importlib.util.find_spec(module) is None:
                yield Finding(module, "warning", "not installed; training on this machine: pip install 'tspctl[train]'")
            else:
                yield Finding(module, "ok", importlib.metadata.version(module))
        cards = gpus_here()
        shown = ", ".join(f"{card.device}: {card.name}, {card.memory_mib or '?'} MiB" for card in cards)
        yield Finding("GPUs", "ok", shown or "none: local ranks run on the CPU")
        yield Finding("local runs", "ok", f"{sum(1 for _ in known_runs())} in {state_home()}")

    def _make_room(self, config: RunConfig) -> None:
        """Forget a run of this name whose results were removed from its store by hand."""
        local = local_run(config.name)
        launch = local.launch()
        if (
            launch
            and local_status(local).state in ENDED
            and not StoredRun(open_store(launch.store), launch.name).exists()
        ):
            logger.info("the former run %s is no longer in its store: forgetting it", config.name)
            local.remove()

    def _stop(self, name: str, request: StopRequest) -> None:
        local = local_run(name)
        _wait_for_supervisor(local)
        launch, supervised = local.launch(), local.supervised()
        if launch is None:
            raise NoSuchRunError(f"no run {name!r} was started on this machine: see 'tspctl list'")
        state = _readable_status(local).state
        if state in ("succeeded", "failed", "cancelled", request.state):
            raise ConfigError(f"run {name} has ended already ({state})")
        local.ask_to_stop(request)
        if supervised is not None and is_alive(supervised.process):
            send(supervised.process, signal.SIGTERM)
            if not wait_gone([supervised.process], request.grace_sec + _AFTER_GRACE_SEC):
                raise TspError(f"run {name} does not stop: see {local.folder / 'supervisor.log'}")
            return
        if supervised is not None:
            stop([rank.process for rank in supervised.ranks], request.grace_sec)
        attempt = supervised.attempt if supervised else 0
        _write_end(local, launch, request.state, attempt)


def _forget_after(local: LocalRun, error: BaseException) -> None:
    """Take a submit back that failed; what stays is named beside the error that made it fail."""
    try:
        local.remove()
    except TspError as second:
        error.add_note(f"and then: {second}; remove the run with 'tspctl delete {local.name}'")


def _readable_status(local: LocalRun) -> RunStatus:
    """The status of a run of which everything can be read.

    Raises: ConfigError saying what cannot, and what to do.
    """
    status = local_status(local)
    if status.state == "damaged":
        raise ConfigError(str(status.reason))
    return status


def _ends_soon(local: LocalRun) -> bool:
    """Whether nobody looks after a run any more; a supervisor that has written the end needs a moment to go."""
    deadline = time.monotonic() + _LAST_MOMENT_SEC
    while local.is_supervised():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SEC)
    return True


def _wait_for_supervisor(local: LocalRun) -> None:
    """Let a submit that is under way end: its process must not be stopped."""
    deadline = time.monotonic() + _START_TIMEOUT_SEC
    while time.monotonic() < deadline:
        supervised = local.supervised()
        if supervised is None or supervised.phase != "submitting" or not is_alive(supervised.process):
            return
        time.sleep(POLL_SEC)


def _ranks_left(local: LocalRun) -> tuple[RankProcess, ...]:
    """Ranks of the last attempt, which may outlive a supervisor that was killed."""
    try:
        supervised = local.supervised()
    except DamagedRunError:
        return ()
    return supervised.ranks if supervised else ()


def _grace(grace_sec: float | None) -> float:
    return _GRACE_SEC if grace_sec is None else grace_sec


def _write_end(local: LocalRun, launch: Launch, state: StopState, attempt: int) -> None:
    """Write down the end of a run that has no supervisor to do it."""
    outcome = Outcome(state=state, exit_code=143, reason="asked for, when nothing of it ran", attempt=attempt)
    publish_outcome(launch, outcome)
    local.write_outcome(outcome)


def _launch(config: RunConfig) -> Launch:
    """How to start a run on the cards that are here."""
    store: StoreConfig = config.store
    return Launch(
        name=config.name,
        store=store,
        gpus=config.gpus,
        command=ENTRYPOINT,
        devices=tuple(card.device for card in gpus_here()[: config.gpus]),
        max_attempts=config.max_attempts,
        created=datetime.now(UTC).isoformat(),
    )


def _start_supervisor(local: LocalRun) -> None:
    """Start it in a session of its own and wait until it has taken over.

    Raises: TspError with its own words if it does not.
    """
    log = local.folder / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.backends.local.supervisor", str(local.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=local.folder,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_TIMEOUT_SEC
    while process.poll() is None and time.monotonic() < deadline:
        supervised = local.supervised()
        if supervised is not None and supervised.pid == process.pid:
            return
        time.sleep(POLL_SEC)
    if process.poll() != 0:
        words = log.read_text().strip().splitlines()[-1:] or ["nothing"]
        raise TspError(f"the supervisor of run {local.name} did not start; it said: {words[0]} (all of it: {log})")
