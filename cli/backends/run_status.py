"""A run, and each of its ranks, as a backend sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cli.humanize import parse_time
from tsp.run.status import RunState

if TYPE_CHECKING:
    from tsp.config.store import StoreConfig
    from tsp.run.records import Outcome


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
    image: str | None = None
    """Of its container, as the runtime resolved it: with its digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """A run as its backend sees it."""

    name: str
    state: RunState
    kind: str = "train"
    """``train``, or the kind of an auxiliary job (``extract``, ``gvf``, ``standardize``)."""
    reason: str | None = None
    """One line: why it waits or failed, and what to do about it if known."""
    exit_code: int | None = None
    """Exit code of the rank that ended the run."""
    attempt: int | None = None
    gpus: int | None = None
    created: datetime | None = None
    """With a time zone."""
    ended: datetime | None = None
    ranks: tuple[RankStatus, ...] = ()
    store: StoreConfig | None = None
    """The run's store, as the backend recorded it."""
    owner: str | None = None
    """The owner's name of the backend for this run (``tsp.run.ownership``), if it has one."""

    def settled_by(self, outcome: Outcome | None) -> RunStatus:
        """The status with information from the store: if the supervisor was killed after the ranks had recorded their
        end, the run has ended. An outcome from before the run was started here belongs to an earlier start.
        """
        if self.state != "crashed" or outcome is None:
            return self
        settled = self.with_outcome(outcome)
        begun, ended = self.created, settled.ended
        is_earlier = begun is not None and ended is not None and ended + timedelta(seconds=1) < begun
        return self if is_earlier else settled

    def with_outcome(self, outcome: Outcome) -> RunStatus:
        """How the run ended."""
        return dataclasses.replace(
            self,
            state=outcome.state,
            reason=None if outcome.state == "succeeded" else outcome.reason,
            exit_code=outcome.exit_code,
            attempt=outcome.attempt,
            ended=parse_time(outcome.ended),
        )


def absent_ranks(name: str, wanted: Iterable[int], num_ranks: int | None) -> str | None:
    """The error for ranks that a run does not have; None if it has them all, or their number is unknown."""
    absent = [rank for rank in wanted if num_ranks is not None and rank >= num_ranks]
    if num_ranks is None or not absent:
        return None
    its = "its only rank is 0" if num_ranks == 1 else f"its ranks are 0 to {num_ranks - 1}"
    return f"run {name} has no rank {', '.join(map(str, absent))}: {its}"
