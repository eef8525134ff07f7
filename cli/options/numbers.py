"""Numbers of options that only the command line reads; those of configurations have their bounds in the fields."""

from __future__ import annotations

import math
from typing import Any

import click

MOST_SEC = 1_000_000_000
"""Three decades: what time functions take everywhere."""
MOST_REFRESH_SEC = 86_400


class FiniteRange(click.FloatRange):
    """A range without NaN, which is neither below nor above any bound, and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


SECONDS = FiniteRange(0, MOST_SEC)
REFRESH_SECONDS = FiniteRange(1, MOST_REFRESH_SEC)
