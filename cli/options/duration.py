"""Lengths of time as people type them: ``90s``, ``30m``, ``12h``, ``2d``, ``1h30m``."""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d{1,9}[smhd])+", re.ASCII)


def seconds_in(text: str) -> int | None:
    """Seconds of a duration; None if it is none."""
    if _DURATION.fullmatch(text) is None:
        return None
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


class Duration(click.ParamType[int]):
    """An option's value; the command gets seconds."""

    name = "DURATION"

    def __init__(self, most_sec: int) -> None:
        self._most_sec = most_sec

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds, at least one."""
        if isinstance(value, int):
            return value
        seconds = seconds_in(value)
        if not seconds:
            self.fail(f"{value!r} is not a duration: expected for example 90s, 30m, 12h, 2d or 1h30m", param, ctx)
        if seconds > self._most_sec:
            self.fail(f"{value!r} is longer than {self._most_sec // 86400}d, the longest possible", param, ctx)
        return seconds
