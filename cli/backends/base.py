"""The protocol of a backend, and the values it takes and returns.

The backends are a cluster (``cli.backends.cluster``) and this machine (``cli.backends.local``).

A backend provides processes, pods and how they ended; epochs, progress and results are read from the store, whatever
the backend. No command checks which backend it uses: every difference between backends is a method or an attribute
here. A backend raises subclasses of TspError whose messages say what to do, writes nothing to stdout, and logs its
actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cli.backends.checks import Check
    from cli.backends.run_status import RunStatus
    from tsp.config.job import Job
    from tsp.config.run import RunConfig
    from tsp.config.sizing import EffectiveSizes
    from tsp.config.store import StoreConfig
    from tsp.run.status import Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuStatus:
    """The GPUs of one kind on one node or machine."""

    node: str
    gpu: str | None
    """Its kind, by its labels or driver."""
    memory: str | None
    driver: str | None
    total: int
    free: int
    held_by: Mapping[str, int]
    """Run, or another holder -> GPUs."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one rank, without its line break."""

    rank: int
    text: str
    time: datetime | None = None
    """When it was written, with a time zone; None if that was not recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogQuery:
    """Which lines of a run to read."""

    follow: bool = False
    """Wait for the run to start, and for lines until it has ended."""
    ranks: tuple[int, ...] | None = None
    """None: all."""
    tail: int | None = None
    """Only this many last lines of each rank, then new lines."""
    since: datetime | None = None
    attempt: int | None = None
    """Only this attempt; None: all that are still there."""
    previous: bool = False
    """Only the attempt before the latest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendOptions:
    """Options for the backend only; the run's results do not depend on them."""

    image: str | None = None
    queue: str | None = None
    chart_values: tuple[str, ...] = ()
    """``KEY=VALUE`` of the chart, which override everything else."""
    chart_value_files: tuple[str, ...] = ()
    pods: Mapping[str, Any] = field(default_factory=dict)
    """Options of the pods (``cli.options.pods``) by key."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run ready to be submitted; a backend may add fields in a subclass."""

    config: RunConfig
    options: BackendOptions
    effective: EffectiveSizes | None = None
    """None: the ranks decide, on the GPUs they find."""
    explanation: tuple[str, ...] = ()
    """Lines that explain downscale factor, batch and learning rates."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How an auxiliary job in the foreground ended."""

    exit_code: int
    answer: dict[str, Any] | None
    """What it wrote to stdout; a failed job has written the reason to stderr."""


class Backend(Protocol):
    """Executes runs and auxiliary jobs."""

    name: str
    """``kubernetes`` or ``local``; for messages and reports, never to branch on."""

    @property
    def lists_stored_runs(self) -> bool:
        """Whether ``list`` includes runs known only to the store by default."""
        ...

    @property
    def sees_paths(self) -> bool:
        """Whether a path in a configuration means a file of this machine."""
        ...

    def names(self) -> Iterator[str]:
        """Names of its runs, for completion; cheaper than ``list_runs``."""
        ...

    def holds(self, name: str) -> bool:
        """Whether the name is taken."""
        ...

    def refuse_ignored(self, given: Mapping[str, Any]) -> None:
        """Refuse options that this backend would ignore.

        Args: given, option as on the command line -> value; None or empty if it was not given.
        Raises: ConfigError naming the option.
        """
        ...

    def store_from_here(self, recorded: StoreConfig) -> StoreConfig:
        """How this machine connects to a run's store; its ranks may use another endpoint."""
        ...

    def with_job_paths(self, values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        """The fields of an auxiliary job, with paths that its processes can open.

        Args: keys, names of the fields that may hold paths.
        """
        ...

    def with_paths(self, config: RunConfig, dataset: str | None) -> RunConfig:
        """The configuration, with paths that its ranks can open, whatever the current folder.

        Args: dataset, as given to ``--dataset``; None if the configuration is that of an earlier run.
        Raises: ConfigError naming each path that they cannot open.
        """
        ...

    def plan(self, config: RunConfig, options: BackendOptions) -> Plan:
        """Size the run for the available GPUs. Creates nothing, and refuses only what can never work."""
        ...

    def checks(self, plan: Plan) -> Sequence[Check]:
        """What to check, in this order, before anything is created; an existing run is refused, too.

        The checks raise ConfigError, DataError, ClusterError or StoreError, saying what to do.
        """
        ...

    def render(self, plan: Plan, *, on_server: bool = False) -> str:
        """Exactly what ``submit`` would create, as text; with ``on_server``, validated by the API server."""
        ...

    def submit(self, plan: Plan) -> None:
        """Start the run and return; it no longer needs this process or its terminal."""
        ...

    def gpus(self) -> Iterator[GpuStatus]:
        """Its GPUs by node, and the runs that use them."""
        ...

    def list_runs(self) -> Iterator[RunStatus]:
        """All runs of this backend, newest first."""
        ...

    def status(self, name: str) -> RunStatus | None:
        """The status of a run; None if the backend does not know it."""
        ...

    def logs(self, name: str, query: LogQuery) -> Iterator[LogLine] | None:
        """Lines of the ranks, merged by time; None if they must be read from the store.

        With ``query.follow`` it waits for the run to start, continues across restarts, and ends when the run has ended.
        """
        ...

    def cancel(self, name: str, *, grace_sec: float | None) -> None:
        """Stop the run for good: returns once state is saved, uploads are drained and outcome ``cancelled`` is written.

        Args: grace_sec, after which remaining processes are killed; None: the backend's default.
        Raises: NoSuchRunError; ConfigError if it has ended already.
        """
        ...

    def suspend(self, name: str, *, grace_sec: float | None) -> None:
        """As ``cancel``, with outcome ``suspended``."""
        ...

    def resume(self, name: str, config: RunConfig | None, *, force: bool = False) -> None:
        """Continue from the newest saved state.

        Args: config, as in the store; None if it has none; force, even if another machine or namespace may train it.
        Raises: HeldElsewhereError.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a run that has ended from this backend; its store is not touched."""
        ...

    def execute(self, name: str, rank: int, command: Sequence[str]) -> int:
        """Run a command in the environment of a rank, terminal included. Returns: its exit code."""
        ...

    def run_job(self, name: str, job: Job, options: BackendOptions, *, gpus: int) -> JobEnd | None:
        """Run an auxiliary job. Returns: how it ended, or None if it now runs in the background as ``name``."""
        ...

    def versions(self) -> Mapping[str, str]:
        """Versions of what runs use, by name: chart and image, or the installed packages. Makes no request."""
        ...

    def diagnose(self) -> Iterator[Finding]:
        """Findings of ``tspctl doctor`` about this backend."""
        ...
