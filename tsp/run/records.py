"""The records of a run: results lines, and the JSON files next to the checkpoints.

A results line is identical to that of the original TSP code, so that both can read the other's ``results.txt``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from tsp.config.codec import field_names, from_dict, json_text, to_dict
from tsp.errors import ConfigError, StoreError
from tsp.run.class_counts import ClassCounts
from tsp.run.results import EpochResult

T = TypeVar("T")


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
    classes: tuple[ClassCounts, ...] = ()
    """Validation clips by class, per head; empty in records of older versions."""
    created: str = field(default_factory=utc_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """``progress.json``: a run's position. Written by rank 0 about every ten seconds."""

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
    waiting_for: str | None = None
    """What rank 0 has been waiting for longer than usual."""
    data_wait_share: float | None = None
    """Share of the last seconds of training in which rank 0 waited for clips, 0 to 1."""
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
    """Key of the data, relative to the run; filled in when published."""
    created: str = field(default_factory=utc_now)
    previous: StateMeta | None = None
    """Fallback if the data named here is not there."""


_TIMES = frozenset({"created", "updated", "ended", "started"})


def check_time(text: Any) -> None:
    """Raises: ValueError if it is no time with its zone, as ``utc_now`` writes it."""
    if not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text!r:.60} is not a time with a time zone")


def dump_record(record: Any) -> bytes:
    """A record as strict JSON; numbers that are not finite become the texts nan, inf and -inf."""
    return json_text(strict(to_dict(record))).encode()


def load_record(cls: type[T], data: bytes, *, where: str) -> T:
    """A record from JSON; keys that a newer version added are ignored.

    Args: cls, one of the dataclasses above; where, the object's address for messages.
    Raises: StoreError if it is damaged.
    """
    try:
        raw = json.loads(data)
        known = field_names(cls)
        if not isinstance(raw, dict):
            raise ConfigError(f"a {cls.__name__} must be a mapping")
        for key in _TIMES & raw.keys():
            check_time(raw[key])
        mine = {key: value for key, value in raw.items() if key in known}
        return from_dict(cls, mine, where=cls.__name__, non_finite=True)
    except (ValueError, TypeError, RecursionError, ConfigError) as error:
        raise StoreError(f"{where} is damaged: {error}; delete it to continue without it") from error


def strict(value: Any, replaced: Callable[[float], str | None] = str) -> Any:
    """A value in which numbers that are not finite are replaced, by default with the texts nan, inf and -inf."""
    if isinstance(value, float) and not math.isfinite(value):
        return replaced(value)
    if isinstance(value, dict):
        return {key: strict(item, replaced) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item, replaced) for item in value]
    return value
