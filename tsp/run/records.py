"""What a run writes down: results lines, and the JSON files beside the checkpoints.

A results line is the original TSP code's, to the character, so that either side reads the other's ``results.txt``.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from tsp.errors import ConfigError, DataError, StoreError
from tsp.run.config import from_dict

logger = logging.getLogger(__name__)

_NUMBER = r"([-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity))"
_HEAD = re.compile(rf"<([^>\r\n]+)>\s+Accuracy\s+{_NUMBER}\s+Loss\s+{_NUMBER}\s*;")
_PART = r"<[^>\r\n]+>[^<;]*;\s*"
_LINE = re.compile(
    rf"\s*\*\*\s*Valid Epoch (\d+):\s*((?:{_PART})+)Total Loss\s+{_NUMBER}\s+Avg Accuracy\s+{_NUMBER}\s*"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeadResult:
    """One head's figures over the labelled validation clips of an epoch."""

    label_column: str
    accuracy_percent: float
    loss: float


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The validation figures of an epoch; what a results line says."""

    epoch: int
    heads: tuple[HeadResult, ...]
    total_loss: float
    avg_accuracy_percent: float
    """Mean of the heads' accuracies; the epoch with the highest is the best."""


def format_line(result: EpochResult) -> str:
    """The results line of an epoch, without a line end.

    Source: TSP, ``results.txt``; three decimals, two spaces after the colon.
    """
    heads = "".join(
        f" <{head.label_column}> Accuracy {head.accuracy_percent:.3f} Loss {head.loss:.3f};" for head in result.heads
    )
    return (
        f"** Valid Epoch {result.epoch}: {heads} "
        f"Total Loss {result.total_loss:.3f} Avg Accuracy {result.avg_accuracy_percent:.3f}"
    )


def parse_line(line: str) -> EpochResult:
    """The figures of a results line; ``nan`` and ``inf`` are figures.

    Raises: DataError if it is no results line.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise DataError(f"not a results line: {line.strip()[:120]!r}")
    heads = tuple(HeadResult(head[1], float(head[2]), float(head[3])) for head in _HEAD.finditer(match[2]))
    if len(heads) != len(re.findall(_PART, match[2])):
        raise DataError(f"not a results line: {line.strip()[:120]!r}")
    return EpochResult(int(match[1]), heads, float(match[3]), float(match[4]))


def parse_results(text: str, *, where: str = "results.txt") -> dict[int, EpochResult]:
    """Epoch -> figures, in rising order of epochs, of a whole ``results.txt``.

    A repeated epoch: the last line wins. Blank lines are passed over; any other line that is no results line is
    skipped with a warning that names ``where`` and the line's number.
    """
    results: dict[int, EpochResult] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip("\0 \t\ufeff"):
            continue
        try:
            result = parse_line(line.lstrip("\ufeff"))
        except DataError as error:
            logger.warning("%s, line %d skipped: %s", where, number, error)
            continue
        results[result.epoch] = result
    return dict(sorted(results.items()))


def best(results: Mapping[int, EpochResult] | Iterable[EpochResult]) -> EpochResult:
    """The epoch of the highest Avg Accuracy; ``nan`` never wins, of equals (in a results line) the earlier one does.

    Raises: DataError if no epoch has a finite figure.
    """
    candidates: list[EpochResult] = list(results.values() if isinstance(results, Mapping) else results)
    finite = [result for result in candidates if math.isfinite(result.avg_accuracy_percent)]
    if not finite:
        reason = "every Avg Accuracy is nan" if candidates else "no epoch has been validated yet"
        raise DataError(f"there is no best epoch: {reason}")
    return max(finite, key=lambda result: (round(result.avg_accuracy_percent, 3), -result.epoch))


def utc_now() -> str:
    """The time now as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord:
    """``epoch_N.json``: the checkpoint of an epoch is there, is this one, and scored this."""

    epoch: int
    size_bytes: int
    sha256: str
    """Of ``epoch_N.pth``."""
    results_line: str
    result: EpochResult
    clips_per_sec: float
    """Training clips per second over the epoch, all ranks together."""
    duration_sec: float
    """Training and validation."""
    bad_clips: int = 0
    """Clips that could not be decoded."""
    created: str = field(default_factory=utc_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """``progress.json``: where a run stands. Written by rank 0 about every ten seconds."""

    phase: str
    """``starting``, ``training``, ``validating``, ``saving`` or ``done``."""
    epoch: int
    epochs: int
    step: int
    steps: int
    """Steps of this phase in this epoch."""
    clips_per_sec: float
    eta_sec: float | None
    """Seconds to the end of the run; None while unknown."""
    attempt: int
    world_size: int
    downscale: int
    batch_per_gpu: int
    global_batch: int
    backbone_lr: float
    """Of this step, warm-up and milestones included."""
    head_lr: float
    best_epoch: int | None = None
    best_accuracy_percent: float | None = None
    device: str = "cpu"
    bad_clips: int = 0
    updated: str = field(default_factory=utc_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """``outcome.json``: how the last attempt ended."""

    state: Literal["succeeded", "failed", "cancelled", "suspended"]
    exit_code: int
    reason: str
    attempt: int
    ended: str = field(default_factory=utc_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class StateMeta:
    """``state/latest.json``: the newest mid-epoch state and the one before it."""

    epoch: int
    """Epoch that was being trained."""
    step: int
    """Steps of it that the state contains."""
    attempt: int
    sha256: str
    size_bytes: int
    key: str = ""
    """Where the data lies, relative to the run; filled in when published."""
    created: str = field(default_factory=utc_now)
    previous: StateMeta | None = None
    """Fallback if the data named here is not there."""


def dump_record(record: Any) -> bytes:
    """A record as strict JSON; figures that are no numbers become the texts nan, inf and -inf."""
    return (json.dumps(_strict(dataclasses.asdict(record)), indent=2, allow_nan=False) + "\n").encode()


def load_record(cls: type[T], data: bytes, *, where: str) -> T:
    """A record from JSON; keys that a newer version added are ignored.

    Args: cls, one of the dataclasses above; where, the object's address for messages.
    Raises: StoreError if it is damaged.
    """
    try:
        raw = json.loads(data)
        known = {item.name for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if not isinstance(raw, dict):
            raise ConfigError(f"a {cls.__name__} must be a mapping")
        return from_dict(cls, {key: value for key, value in raw.items() if key in known}, where=cls.__name__)
    except (ValueError, ConfigError) as error:
        raise StoreError(f"{where} is damaged: {error}") from error


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
