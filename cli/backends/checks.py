"""Checks before anything is created, in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One check before anything is created."""

    name: str
    """What is checked: ``GPUs``, ``store``."""
    run: Callable[[], None]
    """Logs warnings; raises a TspError that says what is wrong and what to do."""


def run_checks(checks: Iterable[Check]) -> None:
    """Run checks in order, up to the first that fails.

    Raises: the error of that check.
    """
    for check in checks:
        logger.debug("checking %s", check.name)
        check.run()
