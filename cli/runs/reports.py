"""Reports of all runs: what the backend knows, and what the stores add to it in time."""

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
"""What reading about runs at work may take, however long the API server took; others are read in what is left."""
FEW_RUNS, FEW_READ_SEC = 100, 5.0
"""So few runs of a cluster are all read, unless the store takes that long."""
MAX_AT_REST_READ = 50
"""Of a cluster's runs that ended or are suspended the newest are read, after all that run: hundreds take too long."""
_READERS = 16
"""Runs whose store is read at a time."""


def collect(session: Session, *, everything: bool, briefly: bool = False) -> list[RunReport]:
    """Reports of all runs: those of the backend, then those only the store knows.

    Args: everything, list what only the store knows although the backend leaves that out by default; briefly, only what
        a table shows, which takes far fewer reads.
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
    # Files of this machine are read faster than threads take turns.
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
    """Names of what ``collect`` reports on, in its order; nothing is read from the runs."""
    backend = session.backend
    found = [status.name for status in backend.list_runs()]
    if everything or backend.list_sec is None:
        known = set(found)
        found += [name for name in list_runs(session.store) if name not in known]
    return found


def worth_reading(statuses: Sequence[RunStatus], left_sec: float) -> tuple[list[int], float]:
    """Which runs of a cluster to ask the store about, and for how long: all at work; with time left, the newest others.

    Returns: indices in ``statuses``, the most wanted first; seconds.
    """
    known = [index for index, status in enumerate(statuses) if status.store and status.kind == "train"]
    at_work = [index for index in known if statuses[index].state in {"running", "restarting"}]
    at_rest = [index for index in known if statuses[index].state in ENDED | {"suspended"}]
    if len(known) <= FEW_RUNS:
        return at_work + at_rest, FEW_READ_SEC
    if left_sec < LEAST_READ_SEC:
        return at_work, LEAST_READ_SEC
    return at_work + at_rest[:MAX_AT_REST_READ], min(left_sec, MOST_READ_SEC)


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
    """What was read of each item, the first items first, until the time is up.

    Daemons do it: an executor would hold up the end of the program for a store that does not answer.
    """
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    to_do = iter(items)
    taking = threading.Lock()
    done: queue.Queue[tuple[int, RunReport] | BaseException] = queue.Queue()

    def work() -> None:
        while deadline is None or time.monotonic() < deadline:
            with taking:
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
