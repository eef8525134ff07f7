"""A generator whose first item is computed on a thread before iteration starts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
log = logging.getLogger(__name__)

CLOSE_SEC = 10.0
"""How long closing waits for the first item, in the middle of which a generator cannot be closed."""


class ReadAhead(Generic[T]):
    """Makes the first item of a generator now and, when iterated, continues with it."""

    def __init__(self, source: Generator[T], device: torch.device) -> None:
        """Args: device, the current one of the thread, as memory may be pinned for it."""
        self._source = source
        self._device = device
        self._first: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        # A daemon: a read that hangs must not keep the process from ending.
        threading.Thread(target=self._make_first, name="read ahead", daemon=True).start()

    def __iter__(self) -> Iterator[T]:
        item, error = self._first.get()
        try:
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
            yield from self._source
        finally:
            self._source.close()

    def close(self) -> None:
        """End the generator without having iterated."""
        try:
            self._first.get(timeout=CLOSE_SEC)
        except Empty:
            log.debug("a batch that was read ahead did not come before the end")
            return
        self._source.close()

    def _make_first(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # a thread begins with the first GPU
        try:
            self._first.put((next(self._source), None))
        except BaseException as error:
            self._first.put((None, error))
