"""Whether and how a run has ended, and the exit code for it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from cli.runs.images import keep_images
from tsp.config.address import masked
from tsp.errors import OUTCOME_EXIT_CODES, NoSuchRunError, StoreError, StoreUnreachableError, UnreachableError
from tsp.run.status import ENDED

if TYPE_CHECKING:
    from cli.runs.found_run import FoundRun

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

NOTHING_WILL_CHANGE = ENDED | {"suspended", "unknown"}
"""States that no waiting changes."""
RESUMABLE = frozenset({"suspended", "cancelled", "failed", "crashed"})
"""States that ``resume`` continues from."""
POLL_SEC = 1.0


def final_state(found: FoundRun) -> tuple[str, str | None]:
    """Current state and reason, from the backend, or from the store if the backend does not know the run.

    Raises: NoSuchRunError if the run was deleted in the meantime.
    """
    from cli.runs.summary import end_facts

    status = found.backend.status(found.name) if found.backend else None
    if status is not None:
        if status.state == "crashed":
            with suppress(StoreError):
                status = status.settled_by(found.run.read_outcome())
        return status.state, status.reason and masked(status.reason)
    if not found.run.exists():
        raise NoSuchRunError(f"run {found.name} was deleted")
    facts = end_facts(None, found.run.read_outcome(), found.run.progress_age_sec())
    return facts["state"], facts["reason"] and masked(facts["reason"])


def has_ended(found: FoundRun) -> bool:
    """Whether waiting is pointless."""
    return final_state(found)[0] in NOTHING_WILL_CHANGE


def through_outages(ask: Callable[[], _Answer], deadline: float = math.inf) -> _Answer:
    """What ``ask`` returns, once API server and store answer.

    Args: deadline, by the monotonic clock. Raises: UnreachableError or StoreUnreachableError if it has passed.
    """
    is_unreachable = False
    while True:
        try:
            return ask()
        except (UnreachableError, StoreUnreachableError) as error:
            if time.monotonic() >= deadline:
                raise
            if not is_unreachable:
                logger.warning("%s; still trying", error)
            is_unreachable = True
        time.sleep(POLL_SEC)


def wait_for_end(found: FoundRun, *, timeout_sec: float | None = None) -> tuple[str, str | None]:
    """Wait until the run has ended, through outages of API server and store.

    Returns: state and reason; ``timeout`` and the current state if the time is up.
    """
    deadline = math.inf if timeout_sec is None else time.monotonic() + timeout_sec
    while True:
        try:
            state, reason = through_outages(lambda: final_state(found), deadline)
        except (UnreachableError, StoreUnreachableError) as error:
            return "timeout", str(error)
        if state in NOTHING_WILL_CHANGE:
            _keep_images(found)
            return state, reason
        if time.monotonic() >= deadline:
            return "timeout", state + (f" ({reason})" if reason else "")
        time.sleep(POLL_SEC)


def _keep_images(found: FoundRun) -> None:
    """Record the images now: pods that have ended may be gone later."""
    if found.backend is not None:
        with suppress(UnreachableError):
            keep_images(found.run, found.backend.status(found.name))


def outcome_code(state: str) -> int:
    """0 succeeded, 100 failed or crashed, 103 cancelled, 101 any state that is not an end."""
    if state == "crashed":
        return OUTCOME_EXIT_CODES["failed"]
    return OUTCOME_EXIT_CODES.get(state, OUTCOME_EXIT_CODES["timeout"])
