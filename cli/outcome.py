"""Whether and how a run has ended, and the exit code that tells it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cli.backend import ENDED
from tsp.errors import OUTCOME_EXIT_CODES, NoSuchRunError

if TYPE_CHECKING:
    from cli.runs import FoundRun


def final_state(found: FoundRun) -> tuple[str, str | None]:
    """State and reason as they are now; the place is asked again, and the store where it knows nothing.

    Raises: NoSuchRunError if the run was removed meanwhile.
    """
    from cli.report import report_on

    place = found.backend.status(found.name) if found.backend else None
    if place is None and found.place is not None and not found.run.exists():
        raise NoSuchRunError(f"run {found.name} was removed")
    report = report_on(found.run, place, backend=None)
    return report.state, report.reason


def has_ended(found: FoundRun) -> bool:
    """Whether nothing more will come by itself."""
    if found.backend is None:
        found = replace(found, place=None)
    return final_state(found)[0] in ENDED | {"suspended", "unknown"}


def exit_code_of(state: str) -> int:
    """0 succeeded, 100 failed or crashed, 103 cancelled, 101 anything that is not an end."""
    if state == "crashed":
        return OUTCOME_EXIT_CODES["failed"]
    return OUTCOME_EXIT_CODES.get(state, OUTCOME_EXIT_CODES["timeout"])
