"""Types shared by all backends: a run's state, how its ranks ended and which one failed first, findings of a check.
Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tsp.errors import FIRST_RETRIED_CODE, POD_EXIT_MEANINGS, PeerLostError, TerminatedError

RunState = Literal[
    "pending",  # accepted, but no process of it runs yet
    "running",
    "restarting",  # an attempt was lost, the next one comes by itself
    "suspended",
    "succeeded",
    "failed",
    "cancelled",
    "crashed",  # it ended without a word: nothing will restart it by itself
    "damaged",  # what is recorded of it cannot be read
    "unknown",  # the store has it, but this backend does not know of it
]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "crashed", "damaged"})
"""States that no waiting changes."""
RUNNING: frozenset[str] = frozenset({"running", "restarting"})
"""States in which it has processes, or is about to have them again by itself."""
ACTIVE = RUNNING | {"pending"}
"""States in which it is to be stopped before anything else is done to it."""

PEER_LOST, TERMINATED = PeerLostError.exit_code, TerminatedError.exit_code
"""Exit codes by which a rank reports or forwards another's end (``tsp.errors``)."""


@dataclass(frozen=True, slots=True)
class RankEnd:
    """One rank that ended."""

    rank: int
    code: int
    """Exit code; 128 + number of the signal that killed it."""


def root_cause(ends: Iterable[RankEnd]) -> RankEnd | None:
    """The end that caused the others; None if every rank succeeded.

    Args: ends, the earliest first. Returns: the first failed end that does not merely report or forward another's (a
    lost peer, a SIGTERM); if there is none, the first failed end.
    """
    bad = [end for end in ends if end.code != 0]
    return next((end for end in bad if end.code not in (PEER_LOST, TERMINATED)), bad[0] if bad else None)


def is_permanent(code: int) -> bool:
    """Whether another attempt would end the same: codes 1 to 127. From 128 up another attempt is worthwhile."""
    return 0 < code < FIRST_RETRIED_CODE


def describe_exit(code: int) -> str:
    """An exit code of ``tsp.entrypoint`` in words."""
    meaning = POD_EXIT_MEANINGS.get(code)
    if meaning is None and 128 < code < 160:
        meaning = f"killed by signal {code - 128}"
    return f"exit code {code}" + (f" ({meaning})" if meaning else "")


def describe_end(end: RankEnd, words: str = "") -> str:
    """One line: which rank, which exit code, what it means, and the rank's last message."""
    return f"rank {end.rank} ended with {describe_exit(end.code)}" + (f": {words}" if words else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    level: Literal["ok", "warning", "error"]
    message: str
