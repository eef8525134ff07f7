"""Whether and how a run has ended, and the exit code that tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.backend import ENDED
from tsp.errors import OUTCOME_EXIT_CODES, NoSuchRunError

if TYPE_CHECKING:
    from cli.runs import FoundRun


def final_state(found: FoundRun) -> tuple[str, str | None]:
    """State and reason as they are now; the place is asked again, and the store where it knows nothing.

    Raises: NoSuchRunError if the run was removed meanwhile.
    """
    from cli.report import end_facts

    place = found.backend.status(found.name) if found.backend else None
    if place is not None:
        return place.state, place.reason
    if not found.run.exists():
        raise NoSuchRunError(f"run {found.name} was removed")
    facts = end_facts(None, found.run.read_outcome(), found.run.read_progress())
    return facts["state"], facts["reason"]


def has_ended(found: FoundRun) -> bool:
    """Whether nothing more will come by itself."""
    return final_state(found)[0] in ENDED | {"suspended", "unknown"}


def exit_code_of(state: str) -> int:
    """0 succeeded, 100 failed or crashed, 103 cancelled, 101 anything that is not an end."""
    if state == "crashed":
        return OUTCOME_EXIT_CODES["failed"]
    return OUTCOME_EXIT_CODES.get(state, OUTCOME_EXIT_CODES["timeout"])
