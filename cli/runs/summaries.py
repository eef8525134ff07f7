"""Summaries of all runs for ``list``, from the backend and the stores.

Problem: a namespace may have a thousand runs, each of which takes one or more reads from stores that may be slow or
unreachable, but ``list`` should answer within about two seconds.
Idea: the backend's list is complete by itself. For a bucket, two list requests give the rest: the index that runs
maintain, and the existing folders; only runs whose entry is missing or not fresh are read one by one, in parallel. In a
folder, the files are simply read.
Invariants: every run is listed, whatever its store does; a damaged run is shown as damaged; no run is shown without
progress because time ran out; a store that does not answer costs ``PATIENCE_SEC`` once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from cli.backends.run_status import RunStatus
from cli.runs.summary import RunSummary, summarize, summarize_briefly, summary_from_backend, summary_from_index
from tsp.errors import ConfigError, StoreError, StoreUnreachableError, TspError
from tsp.run.run_index import IndexEntry, read_index
from tsp.run.status import RUNNING
from tsp.run.stored_run import StoredRun, list_runs
from tsp.store.deadline import within
from tsp.wording import counted_is

if TYPE_CHECKING:
    from cli.runs.session import Session
    from tsp.config.store import StoreConfig
    from tsp.store.base import Store

T = TypeVar("T")
logger = logging.getLogger(__name__)

PATIENCE_SEC = 15.0
"""How long a bucket may take to answer at all."""
FRESH_FOR = timedelta(minutes=3)
"""A run refreshes its entry in the index every minute; clocks of clusters and stores may differ by the rest."""
_READERS = 16
"""Runs read in parallel."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The state of all runs of a bucket, from its listings."""

    index: dict[str, IndexEntry]
    folders: frozenset[str]
    now: datetime
    """By the store's clock."""

    def entry_of(self, status: RunStatus) -> IndexEntry | None:
        """The entry of a run, if its run still kept it when it was seen last; None if the run itself must be read."""
        entry = self.index.get(status.name)
        if entry is None or (status.state == "succeeded" and entry.facts.phase != "done"):
            return None  # not kept to the end
        seen = self.now if status.state in RUNNING else status.ended
        return entry if seen is None or seen - entry.modified < FRESH_FOR else None


def collect(session: Session, *, everything: bool, briefly: bool = False) -> list[RunSummary]:
    """Summaries of all runs: those of the backend, then those that only the store knows.

    Args: everything, include runs that only the store knows even if the backend leaves them out by default; briefly,
        only what a table shows.
    """
    backend = session.backend
    statuses = list(backend.list_runs())
    summaries = [summary_from_backend(status, backend.name) for status in statuses]
    of_stores: dict[StoreConfig, list[int]] = {}
    for index, status in enumerate(statuses):
        if status.kind != "train":
            continue
        if status.store is not None:
            of_stores.setdefault(backend.store_from_here(status.store), []).append(index)
        elif status.state == "crashed":
            # As ``status`` does: what recorded its store is gone, as when a job that has ended lives no longer.
            with suppress(ConfigError):
                of_stores.setdefault(session.store_config(), []).append(index)
    for config, indices in of_stores.items():
        store = session.open_store(config)
        found = _read_runs(store, [statuses[index] for index in indices], backend.name, briefly=briefly)
        for index, summary in zip(indices, found, strict=True):
            if isinstance(summary, RunSummary):
                summaries[index] = summary
            elif summary is not None:
                summaries[index] = replace(summaries[index], reason=summaries[index].reason or str(summary))
    if everything or backend.lists_stored_runs:
        summaries += _stored_alone(session, {status.name for status in statuses})
    return summaries


def names(session: Session, *, everything: bool) -> list[str]:
    """Names of the runs that ``collect`` reports, in its order, without reading them."""
    backend = session.backend
    found = [status.name for status in backend.list_runs()]
    if everything or backend.lists_stored_runs:
        found += _names_stored_alone(session.store, set(found))
    return found


def _read_runs(
    store: Store, statuses: Sequence[RunStatus], backend: str, *, briefly: bool
) -> list[RunSummary | TspError | None]:
    """A summary of each run of one store; the error where it cannot be read; None where nothing is stored."""
    catalogue: Catalogue | None = None
    if not store.is_local:
        try:
            catalogue = within(PATIENCE_SEC, lambda: _catalogue(store))
        except StoreUnreachableError as error:
            logger.warning("%s shown without progress: %s", counted_is(len(statuses), "run"), error)
            return [None] * len(statuses)
        except TimeoutError:
            logger.warning(
                "%s shown without progress: %s has not answered within %.0f s",
                counted_is(len(statuses), "run"), store.uri, PATIENCE_SEC,
            )  # fmt: skip
            return [None] * len(statuses)
        except StoreError as error:
            # A user without permission to list may still read.
            logger.debug("no index: %s", error)

    def read(status: RunStatus) -> RunSummary | TspError | None:
        run = StoredRun(store, status.name)
        entry = None if catalogue is None else catalogue.entry_of(status)
        try:
            if entry is not None and (briefly or status.state not in RUNNING):
                return summary_from_index(run, status, backend, entry)
            if entry is not None:
                return summary_from_index(run, status, backend, entry, progress=run.read_progress())
            if catalogue is not None and status.name not in catalogue.folders:
                return None
            return (summarize_briefly if briefly else summarize)(run, status, backend)
        except TspError as error:
            return error

    # Reading local files is faster than switching threads.
    if store.is_local:
        return [read(status) for status in statuses]
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, statuses))


def _catalogue(store: Store) -> Catalogue:
    return Catalogue(read_index(store), frozenset(store.list_folders()), store.now())


def _stored_alone(session: Session, known: set[str]) -> list[RunSummary]:
    store = session.store

    def read(name: str) -> RunSummary:
        try:
            return summarize(StoredRun(store, name), None, None)
        except StoreUnreachableError as error:
            return RunSummary(name=name, state="unknown", reason=str(error), store=store.uri)
        except TspError as error:
            return RunSummary(name=name, state="damaged", reason=str(error), store=store.uri)

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, _names_stored_alone(store, known)))


def _names_stored_alone(store: Store, known: set[str]) -> list[str]:
    """Names of the runs known only to the store; a failing store is an error only if nothing else is listed.

    Raises: StoreError.
    """

    def find() -> list[str]:
        return list(list_runs(store, known=known))

    try:
        return find() if store.is_local else within(PATIENCE_SEC, find)
    except TimeoutError:
        failure: StoreError = StoreUnreachableError(
            f"{store.uri} did not answer within {PATIENCE_SEC:g} s: try again later"
        )
    except StoreError as error:
        failure = error
    if not known:
        raise failure
    logger.warning("runs known only to the store are missing in this list: %s", failure)
    return []
