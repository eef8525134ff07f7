"""Writes checkpoints on another thread and passes them to the uploader.

A snapshot is copied in memory at once; serialising, hashing and uploading happen on other threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tsp.errors import StoreError
from tsp.run.records import EpochRecord, StateMeta
from tsp.run.uploader import Uploader
from tsp.store.base import sha256_of
from tsp.store.scratch import temporary_folder
from tsp.train import checkpoint

logger = logging.getLogger(__name__)

DRAIN_SEC = 120.0
"""How long a run that ends early may take to finish its uploads; shorter than a pod's grace period."""


class Saver:
    """Sends rank 0's checkpoints to the store; a context manager that publishes everything when it ends normally."""

    def __init__(self, uploader: Uploader) -> None:
        self.uploader = uploader
        self._stack = ExitStack()
        self.folder = self._stack.enter_context(temporary_folder())
        """Lasts as long as the saver; of a rank that is killed, until the next one starts on this machine."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._pending: Future[None] | None = None
        self._number = 0

    @property
    def is_busy(self) -> bool:
        """Whether a file is being written or waiting for the uploader."""
        return self._pending is not None and not self._pending.done()

    def save_state(self, content: Mapping[str, Any], *, epoch: int, step: int, attempt: int) -> None:
        """Publish a mid-epoch state. Waits for the previous file if it is still being written.

        Raises: what an earlier write or upload failed with.
        """

        def publish(path: Path) -> None:
            size, digest = path.stat().st_size, sha256_of(path)
            meta = StateMeta(epoch=epoch, step=step, attempt=attempt, sha256=digest, size_bytes=size)
            self.uploader.submit_state(path, meta)

        self._start(content, publish)

    def save_epoch(self, content: Mapping[str, Any], make_record: Callable[[int, str], EpochRecord]) -> None:
        """Publish an epoch's checkpoint with the record made from its size and SHA-256.

        Raises: what an earlier write or upload failed with.
        """

        def publish(path: Path) -> None:
            self.uploader.submit_epoch(path, make_record(path.stat().st_size, sha256_of(path)))

        self._start(content, publish)

    def _start(self, content: Mapping[str, Any], publish: Callable[[Path], None]) -> None:
        self.check(wait=True)
        self._number += 1
        path = self.folder / f"{self._number}.pth"
        self._pending = self._pool.submit(lambda: publish(checkpoint.write(content, path)))

    def check(self, *, wait: bool = False) -> None:
        """Raise the error of the last file, if any."""
        if self._pending is not None and (wait or self._pending.done()):
            pending, self._pending = self._pending, None
            pending.result()

    def drain(self, timeout_sec: float | None = None) -> None:
        """Wait until everything is in the store.

        Raises: what a write or upload failed with; StoreUnreachableError if the time runs out.
        """
        self.check(wait=True)
        self.uploader.drain(timeout_sec)

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.drain()
            elif not issubclass(kind, StoreError):
                self._drain_late()
        finally:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            self._stack.close()

    def _drain_late(self) -> None:
        """Finish pending uploads although the run ends with an error, which is the one to report."""
        try:
            self.drain(DRAIN_SEC)
        except StoreError as failure:
            logger.error("not everything was saved before the end: %s", failure)
