"""Values as people read them: times, durations, sizes, numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tsp.config.address import masked
from tsp.wording import ACTING, harmless

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPACE = re.compile(rf"\r\n|(?=\s)[{ACTING}]")
"""Line breaks, tabs and others that would end a line."""


def parse_time(text: Any) -> datetime | None:
    """An ISO time, in UTC; None for anything else: a damaged time must not hide the rest of a record."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def show(value: Any) -> str:
    """Text of a table cell: ``-`` for None, numbers with six digits, times as ages."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, datetime):
        return show_duration((datetime.now(UTC) - value).total_seconds()) + " ago"
    return one_line(str(value))


def one_line(text: str, max_chars: int | None = None) -> str:
    """Text from elsewhere as it may stand in a line: secrets of addresses masked, control characters escaped."""
    text = harmless(_SPACE.sub(" ", masked(text)))
    return text if max_chars is None or len(text) <= max_chars else text[: max_chars - 3] + "..."


def show_duration(seconds: float) -> str:
    """``45s``, ``12m30s``, ``3h05m``, ``2d04h``."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def show_size(size_bytes: float) -> str:
    """``512 B``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def curve(values: Sequence[float | None], width: int = 40) -> str | None:
    """A line of blocks and its ends, ``▁▂▅█ 31.5 -> 52.8``; None for fewer than two numbers.

    More values than ``width`` are averaged.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        return None
    size = max(1.0, len(known) / width)
    cuts = [round(index * size) for index in range(round(len(known) / size) + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = min(means), max(means)
    levels = [round((len(_BLOCKS) - 1) * (mean - low) / (high - low)) if high > low else 0 for mean in means]
    return "".join(_BLOCKS[level] for level in levels) + f" {known[0]:.4g} -> {known[-1]:.4g}"
