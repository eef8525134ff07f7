"""A rank's data workers: results in order, and a clear end when a worker fails, dies or does not answer.

torch's DataLoader reports three problems badly or not at all. An exception in a worker arrives with its message buried
in a traceback: here ``dataset[key]`` returns a ``WorkerFailure``, and the original error is raised again. For a dead
worker, the DataLoader raises a RuntimeError that guesses the cause, or whatever reading a batch in its memory raised:
here the exit code shows whether a decoder crashed (the file is set aside and new workers read the rest), shared memory
was full, or the worker was killed. The DataLoader waits forever for a worker that hangs: here every result has a
deadline, and the wait is reported with its reason. For that, each worker notes in shared memory which clip it is
reading.
"""

from __future__ import annotations

import gc
import logging
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tsp.data.child_processes import end_with_parent, forkserver
from tsp.data.shared_memory import explain_full_shared_memory
from tsp.errors import StalledError, TspError

T = TypeVar("T")
log = logging.getLogger(__name__)

LOOK_EVERY_SEC = 2.0
"""How often a wait checks that the workers are alive, and reports what it is waiting for."""
FIRST_WARNING_SEC = 30.0
_STATUS_SEC = 10.0
"""How long the exit status of a worker that has died may take to arrive."""
NO_ITEM = -1
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


class WorkerTracebackError(Exception):
    """The traceback of an exception in a data worker; the cause of the one that is re-raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class WorkerFailure:
    """An exception on its way from a data worker to the training process."""

    def __init__(self, error: Exception) -> None:
        self._text = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301, our own
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        self._error = error

    def throw(self) -> NoReturn:
        """Re-raise the original exception, with the worker's traceback as its cause."""
        raise self._error from WorkerTracebackError(self._text)


@dataclass(frozen=True, slots=True)
class WorkerNotes:
    """What workers and their rank note for each other in shared memory."""

    under_way: Tensor
    """float64 [workers, 2]: the item being read, -1 for none, and its start on the machine's monotonic clock."""
    crashed: Tensor
    """bool [F]: files on which a decoder crashed."""

    @classmethod
    def new(cls, num_workers: int, crashed: Tensor) -> WorkerNotes:
        """Notes of workers that have not read anything yet."""
        under_way = torch.full((max(1, num_workers), 2), float(NO_ITEM), dtype=torch.float64)
        return cls(under_way.share_memory_(), crashed)  # type: ignore[no-untyped-call]

    def begin(self, item: int) -> None:
        """Note the item that this worker is reading; NO_ITEM for none."""
        worker = get_worker_info()
        row = self.under_way[0 if worker is None else worker.id]
        row[1] = time.monotonic()
        row[0] = item

    def item_of(self, worker: int) -> int:
        """The item that a worker is reading; -1 for none."""
        return int(self.under_way[worker, 0])


@dataclass(kw_only=True)
class WorkerReader:
    """Reads the keys of a data set, in worker processes or, without any, in a thread."""

    notes: WorkerNotes
    num_workers: int
    deadline_sec: float
    describe: Callable[[int], str]
    """Names an item for messages."""
    set_aside: Callable[[int], None]
    """Called with the item on which a decoder crashed."""

    def read(self, dataset: Dataset[T | WorkerFailure], keys: Sequence[object], *, pin_memory: bool) -> Iterator[T]:
        """``dataset[key]`` of each key, in order.

        Raises: what reading raises; StalledError past the deadline or if a worker was killed; ConfigError if
            shared memory cannot hold the batches.
        """
        num_done = 0
        while num_done < len(keys):
            results = self._start(dataset, keys[num_done:], pin_memory)
            try:
                for result in self._in_time(results):
                    num_done += 1
                    if isinstance(result, WorkerFailure):
                        result.throw()
                    yield result
            except _WorkerCrashError as crash:
                log.warning("%s: its clips count as bad from now on", crash)
                self.set_aside(crash.item)
            else:
                return
            finally:
                _end(results)

    def _start(self, dataset: Dataset[T], keys: Sequence[object], pin_memory: bool) -> Iterator[T]:
        self.notes.under_way[:, 0] = NO_ITEM
        with warnings.catch_warnings():
            # More workers than cores is the user's choice; torch would warn in every epoch.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader: DataLoader[T] = DataLoader(
                dataset,
                sampler=keys,  # each key is one batch
                batch_size=None,
                num_workers=self.num_workers,
                pin_memory=pin_memory,
                multiprocessing_context=forkserver("tsp.data.dataset") if self.num_workers else None,
                worker_init_fn=_init_worker,
                timeout=LOOK_EVERY_SEC if self.num_workers else 0,
            )
            results = iter(loader)
        return results if self.num_workers else _InThread(results)

    def _in_time(self, results: Iterator[T]) -> Iterator[T]:
        while True:
            began, warned_sec = time.monotonic(), 0.0
            while True:
                try:
                    result = next(results)
                    break
                except StopIteration:
                    return
                except (RuntimeError, OSError, EOFError) as error:
                    self._explain_death(results, error)
                    if "timed out" not in str(error):
                        raise
                warned_sec = self._wait_on(time.monotonic() - began, warned_sec)
            yield result

    def _wait_on(self, waited_sec: float, warned_sec: float) -> float:
        """Report the wait; returns its length when it was last logged.

        Raises: StalledError past the deadline.
        """
        doing = self.doing()
        if waited_sec >= self.deadline_sec:
            raise StalledError(
                f"no batch for {waited_sec:.0f} s (data.batch_deadline_sec): {doing}; check the storage of the "
                "videos and the memory of the pod"
            )
        if waited_sec >= max(FIRST_WARNING_SEC, 2 * warned_sec):
            log.warning("no batch for %.0f s: %s", waited_sec, doing)
            return waited_sec
        return warned_sec

    def doing(self) -> str:
        """What the workers are doing, for messages."""
        now = time.monotonic()
        at = [
            f"worker {worker} has been reading {self.describe(int(item))} for {now - since:.0f} s"
            for worker, (item, since) in enumerate(self.notes.under_way.tolist())
            if item >= 0
        ]
        return "; ".join(at) or "no data worker is reading a clip"

    def _explain_death(self, results: Iterator[Any], error: Exception) -> None:
        """Raises: an error that explains why workers died; none if all are alive.

        Batches that a worker had finished lie in its shared memory until they are asked for, which fails if it has died
        (OSError, EOFError); its exit status may come a little later.
        """
        workers = getattr(results, "_workers", [])
        if not isinstance(error, RuntimeError):
            wait([worker.sentinel for worker in workers], timeout=_STATUS_SEC)
        codes = {number: process.exitcode for number, process in enumerate(workers) if process.exitcode}
        if not codes:
            return
        crash = next((number for number, code in codes.items() if -code in _CRASHES), None)
        worker = next(iter(codes)) if crash is None else crash
        item, code = self.notes.item_of(worker), codes[worker]
        end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        what = f"data worker {worker} {end}" + (f" while it read {self.describe(item)}" if item >= 0 else "")
        if crash is not None and item >= 0:
            raise _WorkerCrashError(what, item) from error
        if code == -signal.SIGBUS:
            raise explain_full_shared_memory(what, self.num_workers) from error
        cure = ""
        if code == -signal.SIGKILL:
            cure = ": it probably ran out of memory; give the pod more memory, or use fewer data.workers"
        raise StalledError(what + cure) from error


class _WorkerCrashError(TspError):
    """A decoder crashed its worker process."""

    def __init__(self, message: str, item: int) -> None:
        super().__init__(message)
        self.item = item


def _end(results: Any) -> None:
    """End the processes, or the thread, that results come from."""
    if isinstance(results, _InThread):
        results.close()
    else:
        results._shutdown_workers()


class _InThread:
    """An iterator whose ``next`` gives up after a while, as a DataLoader's with workers does."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self._asked: SimpleQueue[bool] = SimpleQueue()
        """True for the next result, False to end."""
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._is_waiting = False
        # A daemon: a read that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name="reads clips", daemon=True).start()

    def __iter__(self) -> _InThread:
        return self

    def __next__(self) -> Any:
        if not self._is_waiting:
            self._asked.put(True)
        self._is_waiting = True
        try:
            result, error = self._answers.get(timeout=LOOK_EVERY_SEC)
        except Empty:
            raise RuntimeError(f"timed out after {LOOK_EVERY_SEC} s") from None
        self._is_waiting = False
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Let the thread end."""
        self._asked.put(False)

    def _work(self) -> None:
        while self._asked.get():
            try:
                self._answers.put((next(self._source), None))
            except BaseException as error:
                self._answers.put((None, error))
                return


def _init_worker(_: int) -> None:
    """End with the parent, and freeze what was imported so that garbage collections skip it."""
    end_with_parent()
    gc.collect()
    gc.freeze()
