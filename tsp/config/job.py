"""The base class of auxiliary jobs: what every kind declares, which of its fields are paths, and its answer.

A kind is one class in ``tsp.config.jobs``, and only there: the entrypoint finds the function by ``function``, the
chart's values use ``needs_gpu``, the command line uses ``runs_in_place``, and code that resolves, refuses or mounts
paths reads the annotations that ``reads``, ``writes``, ``scratch`` and ``text`` add to the fields. ``path_fields``
refuses a string field without one of the four, so no path is overlooked.

Common fields of several kinds are in base classes here: ``StoreJob``, ``ParallelJob``, ``SharedJob``. They have no
slots, since classes with slots cannot be combined.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar, Literal

from tsp.config.address import FETCHED, STORED, check_addresses, check_scheme
from tsp.config.bounds import check_numbers, number
from tsp.config.store import StoreConfig
from tsp.config.variables import whole_number
from tsp.errors import ConfigError
from tsp.wording import counted

Access = Literal["read", "write", "scratch"]

_SCHEMES: dict[Access, tuple[str, ...]] = {"read": FETCHED, "write": STORED, "scratch": ()}
_KEY = "path"
_TEXTS = (str, str | None)
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""Set in the pods of an Indexed Job: which of them this is, from 0."""
SHARDS_VARIABLE = "TSP_NUM_SHARDS"
"""Set by the chart beside it: how many there are."""


@dataclass(frozen=True, slots=True)
class PathField:
    """A field of a job that holds a path or URI."""

    option: str
    """Its name on the command line."""
    access: Access
    """``scratch``: a cache, which need not outlive the job."""


def reads(option: str, default: Any = MISSING) -> Any:
    """A field whose file or folder the job reads."""
    return field(default=default, metadata={_KEY: PathField(option, "read")})


def writes(option: str, default: Any = MISSING) -> Any:
    """A field whose file or folder the job writes."""
    return field(default=default, metadata={_KEY: PathField(option, "write")})


def scratch(option: str, default: Any = MISSING) -> Any:
    """A field whose folder the job uses while it runs."""
    return field(default=default, metadata={_KEY: PathField(option, "scratch")})


def text(default: Any = MISSING) -> Any:
    """A string field that is not a path."""
    return field(default=default, metadata={_KEY: None})


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every kind of job declares."""

    kind: ClassVar[str]
    """Its name: on the entrypoint's command line, in the chart's ``job.kind``."""
    function: ClassVar[str]
    """``module:name`` of the function that does it, from the typed job to an ``Answer``; imported when needed."""
    needs_gpu: ClassVar[bool] = False
    """It runs an encoder: a GPU for each shard, and the chart's number of torch threads."""
    runs_in_place: ClassVar[bool] = False
    """By default it runs on this machine, whatever the backend."""

    def __post_init__(self) -> None:
        """Raises: ConfigError for a number out of bounds, or an address with a secret in it or of an unknown kind."""
        check_addresses(self)
        check_numbers(self)
        for item, path in given_paths(self):
            check_scheme(item.option, path, *_SCHEMES[item.access])

    @property
    def server(self) -> StoreConfig | None:
        """How it reaches an S3 server; None if it needs none."""
        return None


@dataclass(frozen=True, kw_only=True)
class StoreJob(Job):
    """A job whose paths may be ``s3://`` addresses."""

    store: StoreConfig | None = None
    """How to reach the S3 server that they mean."""

    @property
    def server(self) -> StoreConfig | None:
        """That of its paths."""
        return self.store


@dataclass(frozen=True, kw_only=True)
class ParallelJob(Job):
    """A job that works on several videos at a time."""

    workers: int | None = number("--workers", None, at_least=0)
    """Processes; None: one per usable CPU."""


@dataclass(frozen=True, kw_only=True)
class SharedJob(ParallelJob):
    """A job whose videos can be split among several pods."""

    shards: int = number("--shards", 1, at_least=1)
    shard: int | None = None
    """None: all of the work, or its merge; a number: only that share of the videos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None and not 0 <= self.shard < self.shards:
            raise ConfigError(f"shard must lie in [0, {self.shards}), got {self.shard}")

    @property
    def names_its_share(self) -> bool:
        """Whether it says which part of the work is meant, whatever the pod."""
        return self.shard is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The result of a job."""

    rows: Sequence[Mapping[str, Any]] = ()
    """Shown as a table."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Shown as lines below it."""
    exit_code: int = 0
    """Exit code of the process: a job that finds fault with its input still answers, and ends with 3."""

    def to_dict(self) -> dict[str, Any]:
        """The form that the entrypoint prints and the command line reads."""
        return {"rows": list(self.rows), **self.facts}


def path_fields(job: type[Job]) -> dict[str, PathField]:
    """The fields of a kind that hold paths.

    Raises: TypeError for a string field that is not annotated, or one that holds several paths.
    """
    hints = typing.get_type_hints(job)
    found = {}
    for item in dataclasses.fields(job):
        if not _holds_text(hints[item.name]):
            continue
        if _KEY not in item.metadata:
            raise TypeError(f"{job.__name__}.{item.name} must be declared by reads, writes, scratch or text")
        if item.metadata[_KEY] is None:
            continue
        if hints[item.name] not in _TEXTS:
            raise TypeError(f"{job.__name__}.{item.name} must hold one path, not several")
        found[item.name] = item.metadata[_KEY]
    return found


def _holds_text(hint: Any) -> bool:
    return hint is str or any(_holds_text(inner) for inner in typing.get_args(hint))


def given_paths(job: Job) -> list[tuple[PathField, str]]:
    """The paths and URIs that a job was given, each with its field's annotation."""
    values = [(item, getattr(job, name)) for name, item in path_fields(type(job)).items()]
    return [(item, value) for item, value in values if value]


def written_addresses(job: Job) -> list[str]:
    """Paths and URIs that the job writes to."""
    return [path for item, path in given_paths(job) if item.access == "write"]


def written_paths(job: Job) -> list[str]:
    """File-system paths, as opposed to S3 addresses, that the job writes to."""
    return [path for path in written_addresses(job) if "://" not in path]


def own_share(job: Job, environment: Mapping[str, str]) -> Job:
    """The job limited to this process's shard: the one it names, else the one that an Indexed Job gave this pod.

    Raises: ConfigError if the environment names a shard that the job does not have.
    """
    if INDEX_VARIABLE not in environment or not isinstance(job, SharedJob) or job.names_its_share:
        return job
    shards = whole_number(environment, SHARDS_VARIABLE, job.shards, least=1)
    index = whole_number(environment, INDEX_VARIABLE, shards)
    if index >= shards:
        given = environment[INDEX_VARIABLE]
        raise ConfigError(f"the variable {INDEX_VARIABLE} is {given!r}, but the job has {counted(shards, 'shard')}")
    return dataclasses.replace(job, shards=shards, shard=index) if shards > 1 else job
