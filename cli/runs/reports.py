"""Reports of all runs for ``list``: what the backend knows, and what the stores add in time.

Problem: a namespace may hold hundreds of runs, each one or more reads away, in stores that may be slow or unreachable,
and ``list`` is to answer within about two seconds.
Idea: the backend's list is complete by itself; reads of the stores only add to it, in parallel, the active runs first,
until the time is up.
Invariants: every run is listed, whatever its store does; a damaged run is shown as damaged beside the others; runs that
were not read in time are counted in a warning.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from cli.backends.base import RunStatus
from cli.runs.report import RunReport, report_briefly, report_from_backend, report_on
from tsp.errors import StoreUnreachableError, TspError
from tsp.run.status import ENDED
from tsp.run.stored_run import StoredRun, list_runs

if TYPE_CHECKING:
    from cli.runs.session import Session

logger = logging.getLogger(__name__)

LEAST_READ_SEC, MOST_READ_SEC = 0.3, 0.7
"""Time to read active runs, however long the API server took; the others are read in what is left."""
FEW_RUNS, FEW_READ_SEC = 100, 5.0
"""Up to so many runs of a cluster are all read, unless the store takes longer than this."""
MAX_INACTIVE_READ = 50
"""Beyond that, so many of the newest ended or suspended runs are read, after the active ones."""
_READERS = 16
"""Runs read in parallel."""


def collect(session: Session, *, everything: bool, briefly: bool = False) -> list[RunReport]:
    """Reports of all runs: those of the backend, then those that only the store knows.

    Args: everything, include runs that only the store knows even if the backend leaves them out by default; briefly,
        only what a table shows, which takes far fewer reads.
    """
    started = time.monotonic()
    backend = session.backend
    statuses = list(backend.list_runs())
    reports = [report_from_backend(status, backend.name) for status in statuses]

    def read(index: int) -> RunReport:
        status = statuses[index]
        assert status.store is not None
        try:
            run = session.stored_run(backend.store_from_here(status.store), status.name)
            return (report_briefly if briefly else report_on)(run, status, backend.name)
        except TspError as error:
            return replace(reports[index], reason=reports[index].reason or str(error))

    wanted, timeout_sec = [i for i, status in enumerate(statuses) if status.store], None
    if backend.list_sec is not None:
        wanted, timeout_sec = worth_reading(statuses, backend.list_sec - (time.monotonic() - started))
    configs = {store for index in wanted if (store := statuses[index].store)}
    stores = [session.open_store(backend.store_from_here(config)) for config in configs]
    # Reading local files is faster than switching threads.
    num_readers = 1 if all(store.is_local for store in stores) else _READERS
    num_read = 0
    for index, report in read_within(timeout_sec, read, wanted, num_readers=num_readers):
        reports[index] = report
        num_read += 1
    if num_read < len(wanted):
        logger.warning(
            "the store did not answer for %d of %d runs within %.1f s, which are shown without progress: "
            "see 'tspctl status RUN'",
            len(wanted) - num_read, len(wanted), timeout_sec,
        )  # fmt: skip
    if everything or backend.list_sec is None:
        reports += _stored_alone(session, {status.name for status in statuses})
    return reports


def names(session: Session, *, everything: bool) -> list[str]:
    """Names of the runs that ``collect`` reports, in its order, without reading them."""
    backend = session.backend
    found = [status.name for status in backend.list_runs()]
    if everything or backend.list_sec is None:
        known = set(found)
        found += [name for name in list_runs(session.store) if name not in known]
    return found


def worth_reading(statuses: Sequence[RunStatus], left_sec: float) -> tuple[list[int], float]:
    """Runs of a cluster to read from the store, and for how long: active ones; if time is left, the newest others.

    Returns: indices in ``statuses``, the most important first; seconds.
    """
    known = [index for index, status in enumerate(statuses) if status.store and status.kind == "train"]
    active = [index for index in known if statuses[index].state in {"running", "restarting"}]
    inactive = [index for index in known if statuses[index].state in ENDED | {"suspended"}]
    if len(known) <= FEW_RUNS:
        return active + inactive, FEW_READ_SEC
    if left_sec < LEAST_READ_SEC:
        return active, LEAST_READ_SEC
    return active + inactive[:MAX_INACTIVE_READ], min(left_sec, MOST_READ_SEC)


def _stored_alone(session: Session, known: set[str]) -> list[RunReport]:
    store = session.store

    def read(name: str) -> RunReport:
        try:
            return report_on(StoredRun(store, name), None, None)
        except StoreUnreachableError as error:
            return RunReport(name=name, state="unknown", reason=str(error), store=store.uri)
        except TspError as error:
            return RunReport(name=name, state="damaged", reason=str(error), store=store.uri)

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, [name for name in list_runs(store) if name not in known]))


def read_within(
    timeout_sec: float | None,
    read: Callable[[int], RunReport],
    items: Sequence[int],
    *,
    num_readers: int = _READERS,
) -> Iterator[tuple[int, RunReport]]:
    """Read the items in order, in parallel, until the time is up.

    In daemon threads: an executor would delay the end of the program for a store that does not answer.
    """
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    to_do = iter(items)
    lock = threading.Lock()
    done: queue.Queue[tuple[int, RunReport] | BaseException] = queue.Queue()

    def work() -> None:
        while deadline is None or time.monotonic() < deadline:
            with lock:
                item = next(to_do, None)
            if item is None:
                return
            try:
                done.put((item, read(item)))
            except BaseException as error:
                done.put(error)

    for _ in range(min(num_readers, len(items))):
        threading.Thread(target=work, daemon=True).start()
    for _ in items:
        try:
            found = done.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        if isinstance(found, BaseException):
            raise found
        yield found
