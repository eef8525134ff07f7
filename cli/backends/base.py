"""What a backend must offer: a cluster (``cli.backends.cluster``) or this machine (``cli.backends.local``).

A backend knows processes, pods and their ends; epochs, progress and results are read from the store by everyone alike.
No command asks which backend it talks to: whatever differs between them is a method or an attribute here.
A backend raises TspError subclasses with messages that say what to do, writes nothing to stdout, and logs what it does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from tsp.run.status import Finding, RunState

if TYPE_CHECKING:
    from tsp.config.job import Job
    from tsp.config.run import RunConfig, StoreConfig
    from tsp.config.sizing import EffectiveSizes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankStatus:
    """One process or pod of a run."""

    rank: int
    state: str
    where: str | None = None
    """Node or process id."""
    gpu: str | None = None
    restarts: int = 0
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """A run as its backend sees it."""

    name: str
    state: RunState
    kind: str = "train"
    """``train``, or the kind of a job (``extract``, ``gvf``, ``standardize``)."""
    reason: str | None = None
    """One line: why it waits or failed, with what to do where that is known."""
    exit_code: int | None = None
    """Of the rank that ended the run."""
    attempt: int | None = None
    gpus: int | None = None
    created: datetime | None = None
    """With a time zone."""
    ended: datetime | None = None
    ranks: tuple[RankStatus, ...] = ()
    store: StoreConfig | None = None
    """Where the run writes to, as the backend recorded it."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one rank, without its line end."""

    rank: int
    text: str
    time: datetime | None = None
    """When it was written, with a time zone; None where nobody wrote it down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogQuery:
    """Which lines of a run are wanted."""

    follow: bool = False
    """Wait for lines (and for the run to start) until the run has ended."""
    ranks: tuple[int, ...] | None = None
    """None: all."""
    tail: int | None = None
    """Only the last lines of each rank, then what follows."""
    since: datetime | None = None
    attempt: int | None = None
    """Only this attempt; None: all that are left."""
    previous: bool = False
    """Only the attempt before the newest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendOptions:
    """What only a backend cares about; the run's results do not depend on it."""

    image: str | None = None
    queue: str | None = None
    chart_values: tuple[str, ...] = ()
    """``KEY=VALUE`` of the chart, which win over all else."""
    chart_value_files: tuple[str, ...] = ()
    pods: Mapping[str, Any] = field(default_factory=dict)
    """Everyday options of the pods (``cli.options.pods``), by their keys."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run ready to be submitted; a backend may add fields in a subclass of its own."""

    config: RunConfig
    options: BackendOptions
    effective: EffectiveSizes | None = None
    """None: only the ranks can decide, on the cards they find."""
    explanation: tuple[str, ...] = ()
    """Lines that say where downscale factor, batch and learning rates come from."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """A job that was waited for."""

    exit_code: int
    answer: dict[str, Any] | None
    """What it wrote to stdout; a job that failed has said why on stderr."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a backend looks at before anything is created."""

    name: str
    """What is looked at: ``GPUs``, ``store``."""
    run: Callable[[], None]
    """Logs warnings; raises the TspError that says what is wrong and what to do."""


def run_checks(checks: Iterable[Check]) -> None:
    """Run checks in their order; the first that fails ends it.

    Raises: what the check raises.
    """
    for check in checks:
        logger.debug("checking %s", check.name)
        check.run()


class Backend(Protocol):
    """Where runs live. All methods but ``plan`` and ``checks`` take a run's name."""

    name: str
    """``kubernetes`` or ``local``; for messages and reports, never to choose what to do."""

    @property
    def list_sec(self) -> float | None:
        """Seconds that ``list`` may take to ask the backend and read the stores of its runs.

        None: as many as it takes, and the runs that only the store knows are listed with them.
        """
        ...

    def names(self) -> Iterator[str]:
        """Names of the runs it knows, for completion; cheaper than ``list_runs``."""
        ...

    def holds(self, name: str) -> bool:
        """Whether the name is taken here."""
        ...

    def refuse_ignored(self, given: Mapping[str, Any]) -> None:
        """Refuse options that were given and would do nothing here.

        Args: given, option as on the command line -> value; None or empty where it was not given.
        Raises: ConfigError naming the option.
        """
        ...

    def store_from_here(self, recorded: StoreConfig) -> StoreConfig:
        """How this machine reaches the store that a run was submitted with; its ranks may reach it otherwise."""
        ...

    def with_job_paths(self, values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        """The fields of an auxiliary job with paths that its processes can open.

        Args: keys, fields that may hold paths.
        """
        ...

    def with_paths(self, config: RunConfig, dataset: str) -> RunConfig:
        """The configuration with paths that its ranks can open, wherever the command was typed.

        Args: dataset, as given to ``--dataset``.
        Raises: ConfigError naming each path that they could not.
        """
        ...

    def plan(self, config: RunConfig, options: BackendOptions) -> Plan:
        """Size the run for what is here; refuses nothing but the impossible, creates nothing."""
        ...

    def checks(self, plan: Plan) -> Sequence[Check]:
        """What is looked at before anything is created, in this order; an existing run is refused, too.

        They raise ConfigError, DataError, ClusterError or StoreError, saying what to do.
        """
        ...

    def render(self, plan: Plan, *, on_server: bool = False) -> str:
        """Exactly what ``submit`` would send, as text; with ``on_server`` the API server has validated it."""
        ...

    def submit(self, plan: Plan) -> None:
        """Start the run and return; it needs this program and its terminal no longer."""
        ...

    def list_runs(self) -> Iterator[RunStatus]:
        """Every run this backend knows, newest first."""
        ...

    def status(self, name: str) -> RunStatus | None:
        """What the backend knows of a run; None if nothing."""
        ...

    def logs(self, name: str, query: LogQuery) -> Iterator[LogLine] | None:
        """Lines of the ranks in the order of time; None if nothing is left here and the store must be read.

        With ``query.follow`` it waits for the run to start, goes over restarts, and ends when the run has ended.
        """
        ...

    def cancel(self, name: str, *, grace_sec: float | None) -> None:
        """Stop the run for good: state saved, uploads drained, outcome ``cancelled`` written. Returns when it is so.

        Args: grace_sec, after which what still runs is killed; None: the backend's own.
        Raises: NoSuchRunError; ConfigError if it has ended already.
        """
        ...

    def suspend(self, name: str, *, grace_sec: float | None) -> None:
        """As ``cancel``, but meant to be resumed; the outcome is ``suspended``."""
        ...

    def resume(self, name: str, config: RunConfig | None) -> None:
        """Go on from the newest saved state, with ``config`` as the store has it (None: it has none)."""
        ...

    def delete(self, name: str) -> None:
        """Remove what this backend holds of a run that has ended; the store is not touched."""
        ...

    def execute(self, name: str, rank: int, command: Sequence[str]) -> int:
        """Run a command beside a rank of a running run, terminal passed through. Returns: its exit code."""
        ...

    def run_job(self, name: str, job: Job, options: BackendOptions, *, gpus: int) -> JobEnd | None:
        """Do an auxiliary job. Returns: how it ended, or None if it now runs in the background as ``name``."""
        ...

    def versions(self) -> Mapping[str, str]:
        """What runs are made of, by name: chart and image, or the installed packages. Asks no server."""
        ...

    def diagnose(self) -> Iterator[Finding]:
        """What ``tspctl doctor`` shows of this backend."""
        ...
