"""One run for ``status`` and ``list``, from its backend and its store.

The backend's state has precedence; if no backend has the run, the store's outcome counts, and without an outcome, fresh
progress. Speed and time left are shown only while the run is active.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from cli.backends.run_status import RankStatus, RunStatus
from cli.humanize import parse_time
from cli.runs.images import images_of_pods
from tsp.errors import POD_EXIT_MEANINGS, DeniedError, NoSuchRunError, StoreError, StoreUnreachableError
from tsp.run.records import Outcome, Progress
from tsp.run.results import EpochResult, best_or_none
from tsp.run.status import RUNNING

if TYPE_CHECKING:
    from tsp.run.run_index import IndexEntry
    from tsp.run.stored_run import StoredRun

T = TypeVar("T")

STALE_AFTER = timedelta(minutes=3)
"""A run that no backend knows is called running only if its progress is newer than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """The keys of ``status -o json``; unknown values are null."""

    name: str
    state: str
    reason: str | None = None
    kind: str = "train"
    backend: str | None = None
    store: str
    method: str | None = None
    dataset: str | None = None
    backbone: str | None = None
    gpus: int | None = None
    device: str | None = None
    attempt: int | None = None
    phase: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    clips_per_sec: float | None = None
    eta_sec: float | None = None
    best_epoch: int | None = None
    best_accuracy_percent: float | None = None
    downscale: int | None = None
    batch_per_gpu: int | None = None
    global_batch: int | None = None
    backbone_lr: float | None = None
    head_lr: float | None = None
    bad_clips: int | None = None
    waiting_for: str | None = None
    """What rank 0 is waiting for, if it takes unusually long."""
    data_wait_share: float | None = None
    work: str | None = None
    """What the shards of an auxiliary job have done while it runs: ``34 of 160 videos``."""
    exit_code: int | None = None
    exit_meaning: str | None = None
    created: datetime | None = None
    updated: datetime | None = None
    ended: datetime | None = None
    images: tuple[str, ...] = ()
    """Of its pods, with their digests, also of those that are gone."""
    ranks: tuple[RankStatus, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """Plain values, including the columns of tables."""
        row = {item.name: getattr(self, item.name) for item in fields(self)}
        row["ranks"] = [asdict(rank) for rank in self.ranks]
        row["progress"] = None if self.epoch is None else f"{self.epoch + 1}/{self.epochs}"
        row["best"] = None
        if self.best_accuracy_percent is not None:
            row["best"] = f"{self.best_accuracy_percent:.3f} % (epoch {self.best_epoch})"
        return row


_COLUMNS = frozenset(RunSummary.__dataclass_fields__)


def summary_from_backend(status: RunStatus, backend: str) -> RunSummary:
    """The backend's part alone: for an auxiliary job, or a run whose store cannot be reached."""
    return RunSummary(
        name=status.name,
        state=status.state,
        reason=status.reason,
        kind=status.kind,
        backend=backend,
        store=status.store.uri if status.store else "",
        gpus=status.gpus,
        attempt=status.attempt,
        exit_code=status.exit_code,
        created=status.created,
        ended=status.ended,
        exit_meaning=None if status.exit_code is None else POD_EXIT_MEANINGS.get(status.exit_code),
        images=tuple(images_of_pods(status)),
        ranks=status.ranks,
    )


def summarize(run: StoredRun, status: RunStatus | None, backend: str | None) -> RunSummary:
    """Read progress, outcome, configuration and results of a run; what does not exist is left out.

    Files that are damaged or may not be read are left out, too, and named as the reason; a run that is unknown to all
    backends then counts as damaged.
    Raises: StoreError if nothing can be read, or the store does not answer.
    """
    parts = _Parts()
    progress, outcome = parts.read(run.read_progress), parts.read(run.read_outcome)
    about = parts.read(lambda: _about_facts(run)) or {}
    results, failures = parts.read(run.readable_results) or ({}, [])
    parts.failures += failures
    parts.check_any()
    facts = {**about, **_progress_facts(progress), **_best_facts(results)}
    age_sec = run.progress_age_sec() if status is None and outcome is None else None
    facts.update(end_facts(status, outcome, age_sec))
    facts["images"] = tuple(images_of_pods(status))
    if parts.failures:
        known = facts["reason"] if status or not parts.is_damaged else None
        facts["reason"] = "; ".join([*([known] if known else []), *parts.reasons()])
        facts["state"] = "damaged" if status is None and parts.is_damaged else facts["state"]
    elif "method" not in facts and progress is None and facts["state"] == "unknown":
        facts["reason"] = "a run of the original scripts, which do not record outcomes"
    return RunSummary(name=run.name, store=run.store.uri, backend=backend, **facts)


class _Parts:
    """The files of a run's folder, each read even if another is damaged."""

    def __init__(self) -> None:
        self.failures: list[StoreError] = []
        self._num_read = 0

    def read(self, part: Callable[[], T]) -> T | None:
        """A part; None where it is damaged."""
        try:
            value = part()
        except StoreUnreachableError:
            raise
        except StoreError as error:
            self.failures.append(error)
            return None
        self._num_read += 1
        return value

    def check_any(self) -> None:
        """Raises: StoreError if no part can be read: it is the store that refuses."""
        if self.failures and not self._num_read:
            raise self.failures[0]

    @property
    def is_damaged(self) -> bool:
        """Whether a part is more than withheld from these credentials."""
        return any(not isinstance(failure, DeniedError) for failure in self.failures)

    def reasons(self) -> list[str]:
        """All problems, without duplicates."""
        return list(dict.fromkeys(map(str, self.failures)))


def summarize_briefly(run: StoredRun, status: RunStatus, backend: str) -> RunSummary:
    """The content of a line of ``list``, with one read from the store if that is enough.

    Raises: StoreError as ``summarize``.
    """
    progress = run.read_progress()
    facts = _progress_facts(progress)
    if progress is None or progress.best_epoch is None:
        facts.update(_best_facts(run.results()))
    facts.update(end_facts(status, _outcome_of_crashed(run, status), None))
    if status.gpus is not None:
        facts["gpus"] = status.gpus
    return RunSummary(name=run.name, store=run.store.uri, backend=backend, **facts)


def summary_from_index(
    run: StoredRun, status: RunStatus, backend: str, entry: IndexEntry, *, progress: Progress | None = None
) -> RunSummary:
    """The state of a run from the index of a bucket, and from its progress, if that was read."""
    facts = {**asdict(entry.facts), "updated": entry.modified}
    facts["gpus"] = facts.pop("world_size")
    facts |= _progress_facts(progress) | end_facts(status, _outcome_of_crashed(run, status), None)
    if status.gpus is not None:
        facts["gpus"] = status.gpus
    return RunSummary(name=run.name, store=run.store.uri, backend=backend, **facts)


def _about_facts(run: StoredRun) -> dict[str, Any]:
    """From run.json, which runs of the original scripts, and runs that are just starting, do not have.

    Read as plain data, so that a run of another version of tspctl is shown, too.
    """
    try:
        about = run.about()
    except NoSuchRunError:
        return {}
    config = _mapping(about["config"])
    facts: dict[str, Any] = {
        "method": config.get("method"),
        "dataset": _mapping(config.get("data")).get("name"),
        "backbone": _mapping(config.get("model")).get("backbone", "r2plus1d_34"),
        "gpus": config.get("gpus"),
        "epochs": _mapping(config.get("schedule")).get("epochs"),
        "created": parse_time(about.get("created")),
    }
    sizes = _mapping(about.get("effective"))
    keys = ("downscale", "batch_per_gpu", "global_batch", "backbone_lr", "head_lr")
    return facts | {key: sizes[key] for key in keys if key in sizes}


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping in a JSON file that another version may have written; empty if it is none."""
    return value if isinstance(value, dict) else {}


def _progress_facts(progress: Progress | None) -> dict[str, Any]:
    if progress is None:
        return {}
    # Not asdict, whose copies would be a sixth of the time of a long list. Fields of a newer version are ignored.
    facts = {item.name: getattr(progress, item.name) for item in fields(progress) if item.name in _COLUMNS}
    facts["gpus"] = progress.world_size
    facts["updated"] = parse_time(progress.updated)
    return facts


def _best_facts(results: dict[int, EpochResult]) -> dict[str, Any]:
    """Best epoch from the results, which are more recent than the progress."""
    found = best_or_none(results.values())
    return {} if found is None else {"best_epoch": found.epoch, "best_accuracy_percent": found.avg_accuracy_percent}


def _outcome_of_crashed(run: StoredRun, status: RunStatus) -> Outcome | None:
    """The outcome, if the backend does not have it."""
    return run.read_outcome() if status.state == "crashed" else None


def end_facts(status: RunStatus | None, outcome: Outcome | None, progress_age_sec: float | None) -> dict[str, Any]:
    """State, reason and related fields: from the backend, else the outcome, else the progress.

    Args: progress_age_sec, by the store's clock.
    Returns: field of ``RunSummary`` -> value.
    """
    facts: dict[str, Any] = {}
    if status is not None:
        status = status.settled_by(outcome)
        facts = {
            "state": status.state,
            "reason": status.reason,
            "kind": status.kind,
            "exit_code": status.exit_code,
            "ended": status.ended,
            "ranks": status.ranks,
        }
        known = {"created": status.created, "attempt": status.attempt}
        facts.update({key: value for key, value in known.items() if value is not None})
    elif outcome is not None:
        facts = {
            "state": outcome.state,
            "reason": None if outcome.state == "succeeded" else outcome.reason,
            "exit_code": outcome.exit_code,
            "attempt": outcome.attempt,
            "ended": parse_time(outcome.ended),
        }
    elif progress_age_sec is not None and progress_age_sec < STALE_AFTER.total_seconds():
        facts = {"state": "running", "reason": "according to its store; no backend here knows it"}
    else:
        facts = {"state": "unknown", "reason": "no backend here knows it, and its store has no outcome"}
    if facts["state"] not in RUNNING:
        # These were true only while it ran.
        facts.update(eta_sec=None, clips_per_sec=None, waiting_for=None)
    code = facts.get("exit_code")
    facts["exit_meaning"] = None if code is None else POD_EXIT_MEANINGS.get(code)
    return facts
