"""A file of TensorBoard's events, written by the caller: the package's own writer has a thread that fails unseen."""

from __future__ import annotations

import os
import socket
import time
from io import BytesIO
from itertools import count
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from tsp.store.atomic import explain_os_error

_NUMBERS = count()


class EventFile:
    """A new file in a folder; complete events reach it when it is flushed."""

    def __init__(self, folder: Path) -> None:
        """Raises: StoreError if the folder cannot be written."""
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        self._path = folder / name
        self._pending = BytesIO()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb", buffering=0)
        except OSError as error:
            raise explain_os_error(error, folder) from error
        self.add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, event: Event) -> None:
        """Append an event."""
        RecordWriter(self._pending).write(event.SerializeToString())

    def flush(self) -> None:
        """Write what was added.

        Raises: StoreError.
        """
        rest, self._pending = memoryview(self._pending.getvalue()), BytesIO()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise explain_os_error(error, self._path) from error

    def close(self) -> None:
        """Write the rest, and close the file.

        Raises: StoreError.
        """
        try:
            self.flush()
        finally:
            self._file.close()
