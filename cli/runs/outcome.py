"""Whether and how a run has ended, and the exit code for it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from tsp.errors import OUTCOME_EXIT_CODES, NoSuchRunError, StoreUnreachableError, UnreachableError
from tsp.run.status import ENDED

if TYPE_CHECKING:
    from cli.runs.found_run import FoundRun

logger = logging.getLogger(__name__)

NOTHING_WILL_CHANGE = ENDED | {"suspended", "unknown"}
"""States that no waiting changes by itself."""
RESUMABLE = frozenset({"suspended", "cancelled", "failed", "crashed"})
"""States in which ``resume`` goes on with a run."""
STOPPED = NOTHING_WILL_CHANGE
"""States in which ``delete`` removes a run."""
POLL_SEC = 1.0


def final_state(found: FoundRun) -> tuple[str, str | None]:
    """State and reason as they are now; the backend is asked again, and the store where it knows nothing.

    Raises: NoSuchRunError if the run was removed meanwhile.
    """
    from cli.runs.report import end_facts

    status = found.backend.status(found.name) if found.backend else None
    if status is not None:
        return status.state, status.reason
    if not found.run.exists():
        raise NoSuchRunError(f"run {found.name} was removed")
    facts = end_facts(None, found.run.read_outcome(), found.run.progress_age_sec())
    return facts["state"], facts["reason"]


def has_ended(found: FoundRun) -> bool:
    """Whether nothing more will come by itself."""
    return final_state(found)[0] in NOTHING_WILL_CHANGE


def wait_for_end(found: FoundRun, *, timeout_sec: float | None = None) -> tuple[str, str | None]:
    """State and reason once nothing more will come by itself; an API server or store that is away is waited for.

    Returns: ``timeout`` and how the run is doing where the time was up before.
    """
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    is_away = False
    while True:
        try:
            state, reason = final_state(found)
            is_away = False
            if state in NOTHING_WILL_CHANGE:
                return state, reason
            shown = state + (f" ({reason})" if reason else "")
        except (UnreachableError, StoreUnreachableError) as error:
            shown = str(error)
            if not is_away:
                logger.warning("%s; still trying", error)
            is_away = True
        if deadline is not None and time.monotonic() >= deadline:
            return "timeout", shown
        time.sleep(POLL_SEC)


def exit_code_of(state: str) -> int:
    """0 succeeded, 100 failed or crashed, 103 cancelled, 101 anything that is not an end."""
    if state == "crashed":
        return OUTCOME_EXIT_CODES["failed"]
    return OUTCOME_EXIT_CODES.get(state, OUTCOME_EXIT_CODES["timeout"])
