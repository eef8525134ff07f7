"""Which machine or namespace may train a run: one at a time, recorded in the run's store.

Problem: a run's name is unique on a machine and in a namespace, but not in a store that several of them share; and the
name of a namespace is not unique among clusters that share a store. After a killed submit, a machine may have a run of
a name that another machine is training now; a run can be resumed where it never ran; with only Helm, one name can be
installed in two namespaces. Each would write to the same folder and overwrite the other's states.
Idea: everything that starts ranks has an owner's name, which the ranks get in ``TSP_OWNER``. ``run.json`` or the last
``state/owner-N.json`` records the owner; another one takes over by writing the next record, once the run has ended or
been silent for ``QUIET_SEC``. Rank 0 checks the owner before it writes anything else, and again after it has counted
its attempt.
Invariants: of two that take over at once one wins, since each N is written once; if one takes over while the other
continues, both write first and check then, so at least one sees the other and gives way; a rank that cannot write gives
up before ``QUIET_SEC`` (``Uploader``), and its next attempt checks again; without ``TSP_OWNER`` nothing is checked.
"""

from __future__ import annotations

import json
from contextlib import suppress

from tsp.errors import (
    ConfigError,
    DeniedError,
    MissingKeyError,
    NoSuchRunError,
    StoreError,
    StoreUnreachableError,
)
from tsp.run import records
from tsp.run.folder import dump_plain
from tsp.run.records import Outcome
from tsp.run.stored_run import StoredRun
from tsp.store.base import KeyExistsError

OWNER_VARIABLE = "TSP_OWNER"
QUIET_SEC = 900.0
"""A run without an outcome that wrote nothing for so long counts as dead. Ranks report progress every ten seconds."""

SIGNS_OF_LIFE = ("run.json", "progress.json", "state/attempt.json", "state/latest.json")
"""What a run that goes on writes."""


class HeldElsewhereError(ConfigError):
    """Another machine or namespace trains the run."""


def owner_of_namespace(namespace: str, cluster: str = "") -> str:
    """The owner's name of the pods of a namespace; the chart uses the same.

    Args: cluster, its ID; empty if unknown.
    """
    return f"namespace {namespace} of cluster {cluster}" if cluster else f"namespace {namespace}"


def owner_of(run: StoredRun) -> str | None:
    """The owner that trained it last; None if none is recorded."""
    return _last_owner(run)[0]


def is_anothers(run: StoredRun, owner: str | None) -> bool:
    """Whether another owner trained it last."""
    return owner is not None and owner_of(run) not in (None, owner)


def refuse_anothers(run: StoredRun, owner: str) -> None:
    """Refuse a run that another may be training at this moment.

    Raises: HeldElsewhereError naming who.
    """
    _refuse_live(run, _last_owner(run)[0], owner)


def take(run: StoredRun, owner: str, *, force: bool = False) -> None:
    """Become the owner of the run; nothing changes for the current owner. Args: owner, "" if the launcher gave none:
    nothing is checked; force, even if the other one is active.
    Raises: HeldElsewhereError; StoreError.
    """
    if not owner:
        return
    current, number = _last_owner(run)
    if current == owner:
        return
    if not force:
        _refuse_live(run, current, owner)
    key = run.key("state", f"owner-{number + 1}.json")
    content = dump_plain({"owner": owner, "since": records.utc_now()})
    try:
        run.store.write(key, content, only_if_absent=True)
        if not force:
            # The other one may have begun meanwhile: it records that before it checks whether it is still the owner.
            _refuse_live(run, current, owner)
    except KeyExistsError as error:
        raise HeldElsewhereError(
            f"another owner has just taken over the run at {run.address()}: check it again"
        ) from error
    except HeldElsewhereError:
        run.store.delete(key)
        raise


def check_still(run: StoredRun, owner: str) -> None:
    """Check that no other owner has taken over, after announcing that the run continues.

    Raises: HeldElsewhereError.
    """
    if is_anothers(run, owner or None):
        raise HeldElsewhereError(f"{owner_of(run)} has just taken over the run at {run.address()}")


def _last_owner(run: StoredRun) -> tuple[str | None, int]:
    """The last owner, and the number of its record. Found by reads only, since lists may be outdated."""
    try:
        owner = run.about().get("owner")
    except NoSuchRunError:
        owner = None
    number = 0
    while True:
        try:
            data = run.store.read(run.key("state", f"owner-{number + 1}.json"))
        except MissingKeyError:
            return owner, number
        owner, number = _parsed(data), number + 1


def _parsed(data: bytes) -> str:
    """For a damaged file: an unknown owner."""
    try:
        return str(json.loads(data)["owner"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "an unknown machine"


def _refuse_live(run: StoredRun, current: str | None, owner: str) -> None:
    if current in (None, owner) or _has_ended(run):
        return
    silent_sec = _silent_sec(run)
    if silent_sec is not None and silent_sec < QUIET_SEC:
        raise HeldElsewhereError(
            f"the run at {run.address()} is being trained by {current}, which wrote {silent_sec:.0f} s ago: stop "
            f"it there first; if it is gone for good, wait until it has been silent for {QUIET_SEC / 60:.0f} "
            f"minutes, or take over with 'tspctl resume {run.name} --force'"
        )


def _has_ended(run: StoredRun) -> bool:
    """Whether it recorded its end. Raises: StoreError if the outcome may not be read here, which does not mean that the
    run is active.
    """
    try:
        return run.load(Outcome, "outcome.json") is not None
    except StoreError as error:
        is_withheld = isinstance(error, DeniedError) or isinstance(error.__cause__, PermissionError)
        if is_withheld or isinstance(error, StoreUnreachableError):
            raise
        return False


def _silent_sec(run: StoredRun) -> float | None:
    """Seconds since it gave a sign of life, by the store's clock; None if it never did."""
    written = []
    for name in SIGNS_OF_LIFE:
        with suppress(MissingKeyError):
            written.append(run.store.stat(run.key(name)).modified)
    return max(0.0, (run.store.now() - max(written)).total_seconds()) if written else None
