"""How long and how often to try again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Tries with doubling, jittered pauses between them."""

    attempts: int = 6
    """Tries in all; with the pauses below six take about 6 to 8 seconds against a server that refuses at once."""
    first_delay_sec: float = 0.25
    max_delay_sec: float = 20.0

    def delays_sec(self) -> Iterator[float]:
        """The pauses between the tries: ``attempts - 1`` of them."""
        for attempt in range(self.attempts - 1):
            longest = min(self.first_delay_sec * 2**attempt, self.max_delay_sec)
            # Jitter keeps the ranks of a run from knocking in step. No secret depends on it.
            yield longest * random.uniform(0.75, 1.0)  # noqa: S311, a pause
