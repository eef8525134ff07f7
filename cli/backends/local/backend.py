"""Runs on this machine: a detached supervisor per run, one process per rank, the store as the source of truth."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.backends.base import BackendOptions, GpuStatus, JobEnd, LogLine, LogQuery, Plan
from cli.backends.checks import Check
from cli.backends.local import launch
from cli.backends.local.gpus import gpus_here
from cli.backends.local.jobs import run_job_here
from cli.backends.local.lifecycle import delete_run, readable_status, resume_run, stop_run
from cli.backends.local.paths import with_absolute_paths
from cli.backends.local.preflight import MODULES, check_data, check_gpus, check_modules, check_store
from cli.backends.local.ranks import environment_of, workers_line
from cli.backends.local.run_folder import LocalRun, known_run, known_runs, local_run, state_home
from cli.backends.local.status import local_status
from cli.backends.log_lines import FolderLogs, read_lines
from cli.backends.run_status import RunStatus, absent_ranks
from cli.options.store import absolute_unless_uri
from cli.stores import Stores
from tsp.config.job import Job
from tsp.config.jobs import MergedJob
from tsp.config.run import RunConfig, to_json
from tsp.config.sizing import downscale_for, effective_sizes
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, NoSuchRunError, TspError
from tsp.run.status import ENDED, RUNNING, Finding
from tsp.version import install_command

logger = logging.getLogger(__name__)


class LocalBackend:
    """Runs on this machine; what each method promises is in ``Backend``."""

    name = "local"
    lists_stored_runs = True
    sees_paths = True

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    # Starting

    def refuse_ignored(self, given: Mapping[str, Any]) -> None:
        """All options of pods and charts."""
        for option, value in given.items():
            if value:
                raise ConfigError(f"{option} does nothing on this machine: leave it out, or submit to a cluster")

    def store_from_here(self, recorded: StoreConfig) -> StoreConfig:
        """As recorded: the ranks run here."""
        return recorded

    def with_job_paths(self, values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        """Absolute: a job's answer names files, and its shards may run in other folders."""
        return values | {key: absolute_unless_uri(values[key]) for key in keys if key in values}

    def with_paths(self, config: RunConfig, dataset: str | None) -> RunConfig:
        """Absolute: ranks run in folders of their own."""
        return with_absolute_paths(config)

    def plan(self, config: RunConfig, options: BackendOptions) -> Plan:
        """Size the run for the smallest GPU it will use."""
        cards = gpus_here()[: config.gpus]
        sizes_mib = [card.memory_mib for card in cards if card.memory_mib is not None]
        if config.downscale != "auto":
            factor, why = int(config.downscale), "as requested"
        elif not cards:
            factor, why = 1, "no GPU here, ranks run on the CPU"
        elif sizes_mib:
            factor, why = downscale_for(min(sizes_mib)), f"smallest of {len(cards)} GPUs has {min(sizes_mib)} MiB"
        else:
            lines = ("downscale factor: the ranks decide", *workers_line(config))
            return Plan(config=config, options=options, explanation=lines)
        sizes = effective_sizes(config, downscale=factor)
        lines = (f"downscale factor {factor}: {why}", str(sizes), *workers_line(config))
        return Plan(config=config, options=options, effective=sizes, explanation=lines)

    def checks(self, plan: Plan) -> Sequence[Check]:
        """Packages, GPUs, data, store and disk."""
        config = plan.config
        return (
            Check("packages", check_modules),
            Check("GPUs", lambda: check_gpus(config.gpus, len(gpus_here()))),
            Check("data", lambda: check_data(config)),
            Check("store", lambda: check_store(config, self._stores.open(config.store))),
            Check("name", lambda: self._free_name(config)),
        )

    def _free_name(self, config: RunConfig) -> None:
        """Forget a run of this name that has ended and whose results were removed from its store by hand."""
        local = local_run(config.name)
        former = local.launch()
        if former is None or local_status(local).state not in ENDED:
            return
        if not self._stores.run(former.store, former.name).exists():
            logger.info("the earlier run %s is no longer in its store: forgetting it", config.name)
            local.remove()

    def render(self, plan: Plan, *, on_server: bool = False) -> str:
        """The configuration file that the ranks read."""
        return to_json(plan.config)

    def submit(self, plan: Plan) -> None:
        """Create the run in the store and start its supervisor.

        If it is interrupted, it leaves nothing, or a run that ``list_runs`` shows and ``delete`` removes: the run's
        folder on this machine is written first.
        """
        local = local_run(plan.config.name)
        local.reserve()
        try:
            owner = launch.new_owner()
            local.write_launch(launch.launch_of(plan.config, owner), to_json(plan.config))
            self._stores.run(plan.config.store, plan.config.name).create(plan.config, plan.effective, owner=owner)
        except BaseException as error:
            _undo_submit(local, error)
            raise
        launch.start_supervisor(local)

    def run_job(self, name: str, job: Job, options: BackendOptions, *, gpus: int) -> JobEnd | None:
        """In the foreground, one process per GPU."""
        check_modules()
        cards = gpus_here()
        if isinstance(job, MergedJob):
            check_gpus(gpus, len(cards))
        elif gpus > 1:
            raise ConfigError(
                f"--shards {gpus} is for clusters: on this machine, --workers splits the videos among processes"
            )
        return run_job_here(launch.ENTRYPOINT, job, gpus=gpus, devices=[card.device for card in cards])

    # Looking

    def names(self) -> Iterator[str]:
        return (local.name for local in known_runs())

    def holds(self, name: str) -> bool:
        return known_run(name) is not None

    def gpus(self) -> Iterator[GpuStatus]:
        """Those of this machine, and the runs started on it that compute on them."""
        cards = gpus_here()
        holders: dict[str, str] = {}
        for local in known_runs():
            found = local_status(local)
            if found.state in RUNNING:
                holders |= {str(rank.gpu).removeprefix("cuda:"): local.name for rank in found.ranks if rank.gpu}
        for name, memory_mib in dict.fromkeys((card.name, card.memory_mib) for card in cards):
            alike = [card.device for card in cards if (card.name, card.memory_mib) == (name, memory_mib)]
            held = Counter(holders[device] for device in alike if device in holders)
            yield GpuStatus(
                node=socket.gethostname(),
                gpu=name,
                memory=f"{memory_mib} MiB" if memory_mib else None,
                driver=None,
                total=len(alike),
                free=len(alike) - held.total(),
                held_by=dict(held),
            )

    def list_runs(self) -> Iterator[RunStatus]:
        return (local_status(local) for local in known_runs())

    def status(self, name: str) -> RunStatus | None:
        """From the run's folder and the process table."""
        local = known_run(name)
        return None if local is None else local_status(local)

    def logs(self, name: str, query: LogQuery) -> Iterator[LogLine] | None:
        """From the console output that this machine keeps."""
        local = known_run(name)
        if local is None:
            return None

        def ended() -> bool:
            # A run that was deleted in the meantime writes nothing more.
            return not local.exists() or local_status(local).state in ENDED | {"suspended"}

        return read_lines(FolderLogs(local.console), query, ended=ended if query.follow else None)

    def versions(self) -> Mapping[str, str]:
        """Of the packages that train."""
        installed = {name for name in MODULES if importlib.util.find_spec(name) is not None}
        return {name: importlib.metadata.version(name) if name in installed else "not installed" for name in MODULES}

    def diagnose(self) -> Iterator[Finding]:
        """Packages, GPUs and the folder of local runs."""
        for module in MODULES:
            if importlib.util.find_spec(module) is None:
                yield Finding(module, "warning", f"not installed; to train on this machine: {install_command('train')}")
            else:
                yield Finding(module, "ok", importlib.metadata.version(module))
        cards = gpus_here()
        shown = ", ".join(f"{card.device}: {card.name}, {card.memory_mib or '?'} MiB" for card in cards)
        yield Finding("GPUs", "ok", shown or "none: local ranks run on the CPU")
        yield Finding("local runs", "ok", f"{sum(1 for _ in known_runs())} in {state_home()}")

    # Changing

    def cancel(self, name: str, *, grace_sec: float | None) -> None:
        """SIGTERM to the ranks through their supervisor."""
        stop_run(local_run(name), self._stores, "cancelled", grace_sec)

    def suspend(self, name: str, *, grace_sec: float | None) -> None:
        """As cancel, with another outcome."""
        stop_run(local_run(name), self._stores, "suspended", grace_sec)

    def resume(self, name: str, config: RunConfig | None, *, force: bool = False) -> None:
        resume_run(local_run(name), self._stores, config, force=force)

    def delete(self, name: str) -> None:
        """Remove the run's folder and console output."""
        local = known_run(name)
        if local is not None:
            delete_run(local)

    def execute(self, name: str, rank: int, command: Sequence[str]) -> int:
        """With the environment of a rank, whether the rank runs or not."""
        local = local_run(name)
        readable_status(local)
        found = local.launch()
        if found is None:
            raise NoSuchRunError(f"no run {name!r} was started on this machine")
        if absent := absent_ranks(name, [rank], found.gpus):
            raise ConfigError(absent)
        environment = environment_of(found, rank, config=local.config_path, port=0)
        return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def _undo_submit(local: LocalRun, error: BaseException) -> None:
    """Remove what a failed submit made; if that fails too, both errors are reported."""
    try:
        local.remove()
    except TspError as second:
        error.add_note(f"and then: {second}; remove the run with 'tspctl delete {local.name}'")
