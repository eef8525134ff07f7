"""What a check of a cluster found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RunState = Literal[
    "pending",  # accepted, but no process of it runs yet
    "running",
    "restarting",  # an attempt was lost, the next one comes by itself
    "suspended",
    "succeeded",
    "failed",
    "cancelled",
    "crashed",  # it ended without a word: nothing will restart it by itself
    "unknown",  # the store has it, but this place does not know of it
]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "crashed"})
"""States that no waiting changes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    level: Literal["ok", "warning", "error"]
    message: str
