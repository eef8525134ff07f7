"""Publishes the files of a training, without blocking the training thread.

The problem: uploading a checkpoint takes longer than a GPU should be idle, and a store may be unreachable for minutes.
So training submits a finished file and continues. One thread publishes files in the order of submission; another writes
progress in parallel, so that a large upload does not make a run look dead.

Invariants: a submitted file is published once or its failure is raised, by the next call or by ``drain``; epochs are
published in order, and none is dropped; a newer state replaces a waiting one; at most ``MAX_WAITING`` files wait, so a
slow store delays training rather than filling the disk; progress never blocks and never fails a run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tsp.errors import StoreUnreachableError
from tsp.run.records import EpochRecord, Progress, StateMeta
from tsp.run.stored_run import StoredRun

logger = logging.getLogger(__name__)

MAX_WAITING = 2
"""Files that may wait; submitting more blocks, so that a slow store cannot fill the disk."""


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    publish: Callable[[], object]
    what: str
    is_state: bool


class Uploader:
    """Threads that publish for one run. Use as a context manager, or call ``drain`` and ``close``."""

    def __init__(
        self, run: StoredRun, *, keep_epochs: int = 0, give_up_after_sec: float = 600.0, pause_sec: float = 5.0
    ) -> None:
        """Start the threads.

        Args: keep_epochs, as in RunConfig; give_up_after_sec, how long an unreachable store is tried again beyond
            the store's own retries; pause_sec, between those tries.
        """
        self.run = run
        self.keep_epochs = keep_epochs
        self.give_up_after_sec = give_up_after_sec
        self.pause_sec = pause_sec
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._busy = False
        self._progress: Progress | None = None
        self._progress_busy = False
        self._progress_failing = False
        self._error: BaseException | None = None
        self._closing = False
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("uploader", self._upload_all), ("progress", self._write_progress))
        ]
        for thread in self._threads:
            thread.start()

    def submit_epoch(self, path: Path, record: EpochRecord) -> None:
        """Publish an epoch, then thin out checkpoints. Blocks while too many files wait.

        Args: path, the checkpoint, which is the uploader's from now on.
        Raises: what an earlier upload failed with.
        """

        def publish() -> None:
            self.run.publish_epoch(path, record)
            self.run.prune_epochs(self.keep_epochs)

        self._submit(_Job(path, publish, f"epoch {record.epoch}", is_state=False))

    def submit_state(self, path: Path, meta: StateMeta) -> None:
        """Publish a mid-epoch state. A state that still waits is dropped for this newer one.

        Args: path, the state, which is the uploader's from now on.
        Raises: what an earlier upload failed with.
        """
        what = f"state of epoch {meta.epoch}, step {meta.step}"
        self._submit(_Job(path, lambda: self.run.publish_state(path, meta), what, is_state=True))

    def submit_progress(self, progress: Progress) -> None:
        """Publish progress soon; the newest wins. Never blocks, never raises."""
        with self._changed:
            self._progress = progress
            self._changed.notify_all()

    def drain(self, timeout_sec: float | None = None) -> None:
        """Wait until everything submitted is published; the newest progress is tried once more.

        Raises: what an upload failed with; StoreUnreachableError if the time runs out.
        """
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        with self._changed:
            while (self._waiting or self._busy or self._progress_due()) and self._error is None:
                left_sec = None if end is None else end - time.monotonic()
                if left_sec is not None and left_sec <= 0:
                    break
                self._changed.wait(left_sec)
            unfinished = len(self._waiting) + self._busy
        self._raise_error()
        if unfinished:
            raise StoreUnreachableError(
                f"{unfinished} uploads to {self.run.address()} were not finished within {timeout_sec:.0f} s"
            )

    def close(self) -> None:
        """Stop the threads once the upload under way is done; what waits behind it is not published."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Uploader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.drain()
        finally:
            self.close()

    def _submit(self, job: _Job) -> None:
        with self._changed:
            if job.is_state and self._waiting and self._waiting[-1].is_state:
                self._waiting.pop().path.unlink(missing_ok=True)
            while len(self._waiting) >= MAX_WAITING and self._error is None:
                self._changed.wait()
            if self._error is None:
                self._waiting.append(job)
                self._changed.notify_all()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _progress_due(self) -> bool:
        """Whether progress is being written, or waits and was not refused the last time."""
        return self._progress_busy or (self._progress is not None and not self._progress_failing)

    def _upload_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                job, self._busy = self._waiting.popleft(), True
                self._changed.notify_all()
            error: BaseException | None = None
            try:
                self._publish(job)
                job.path.unlink(missing_ok=True)
            except Exception as caught:
                error = caught
            with self._changed:
                self._busy, self._error = False, error
                self._changed.notify_all()
                if error is not None:
                    return

    def _publish(self, job: _Job) -> None:
        """Publish, tried again while the store cannot be reached."""
        started = time.monotonic()
        while True:
            try:
                job.publish()
            except StoreUnreachableError as error:
                if self._closing or time.monotonic() - started > self.give_up_after_sec:
                    raise
                logger.warning("%s waits: %s", job.what, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, self.pause_sec)
            else:
                logger.debug("%s published in %.1f s", job.what, time.monotonic() - started)
                return

    def _write_progress(self) -> None:
        while True:
            with self._changed:
                while self._progress is None and not self._closing:
                    self._changed.wait()
                if self._progress is None or (self._closing and self._progress_failing):
                    return
                progress, self._progress, self._progress_busy = self._progress, None, True
            failure: Exception | None = None
            try:
                self.run.write_progress(progress)
            except Exception as error:
                failure = error
            with self._changed:
                if failure is not None and not self._progress_failing:
                    logger.warning("progress cannot be written at the moment: %s", failure)
                self._progress_busy, self._progress_failing = False, failure is not None
                if failure is not None and self._progress is None:
                    self._progress = progress
                self._changed.notify_all()
                if failure is not None:
                    self._changed.wait_for(lambda: self._closing, self.pause_sec)
