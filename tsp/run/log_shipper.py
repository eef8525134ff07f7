"""Copies a rank's log to the store while it is being written.

The problem: a log matters most when its writer dies, an S3 object cannot be appended to, and a log must never slow down
the run. So the log of a local store is appended to. A log for S3 is collected in a local file, and a thread uploads the
whole file every few seconds if it grew: sooner at the start, when most ranks that die do so, and less often as it gets
longer. The file has no name, so a killed rank leaves no file behind.

Invariants: ``write`` never blocks on the network and never raises; memory is constant and the log's size bounded;
``close`` sends everything written before it, unless the store refuses.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from io import FileIO
from pathlib import Path

from tsp.errors import StoreError
from tsp.store.atomic import explain_os_error
from tsp.store.base import Store, sha256_of
from tsp.store.scratch import temporary_folder
from tsp.store.transfer import BLOCK_BYTES

logger = logging.getLogger(__name__)

MAX_LOG_BYTES = 64 << 20
BYTES_PER_SEC = 1 << 20
"""Average bandwidth limit of repeated uploads."""
FIRST_SEC = 0.5
"""Before the first upload; twice as long before each of the next, up to the usual time."""


class LogShipper:
    """A text stream whose lines end up under a key of a store. For ``logging.StreamHandler(LogShipper(...))``.

    A failing store never stops the writer: it is reported once and retried.
    """

    def __init__(
        self, store: Store, key: str, *, every_sec: float = 5.0, at_once: bool = False, max_bytes: int = MAX_LOG_BYTES
    ) -> None:
        """Open the log.

        Args: every_sec, between uploads to a remote store after the first few; at_once, upload what is written right
            away, unless an upload has just been; max_bytes, after which lines are left out.
        Raises: StoreError if its file cannot be opened.
        """
        self.store, self.key, self.every_sec, self.max_bytes = store, key, every_sec, max_bytes
        self._lock = threading.Lock()
        self._closing, self._grew, self._at_once = threading.Event(), threading.Event(), at_once
        self._failing = False
        self._sent_bytes = 0
        self._num_pauses = 0
        self._thread: threading.Thread | None = None
        path = store.local_path(key)
        self._file = _open_unnamed() if path is None else _open_to_append(path)
        self._size_bytes = os.fstat(self._file.fileno()).st_size
        self._is_open = True
        if path is None:
            self._thread = threading.Thread(target=self._send_often, name="log-shipper", daemon=True)
            self._thread.start()

    def write(self, text: str) -> int:
        """Append text to the file at once. Text beyond the limit is dropped, and the log says so."""
        data = text.encode(errors="replace")
        with self._lock:
            if self._size_bytes < self.max_bytes and self._is_open:
                if self._size_bytes + len(data) >= self.max_bytes:
                    data = f"[the rest of this log is left out: it is longer than {self.max_bytes} bytes]\n".encode()
                    self._size_bytes = self.max_bytes
                # A full disk must not end the run just because of its log.
                with contextlib.suppress(OSError):
                    self._file.write(data)
                self._size_bytes += len(data)
        self._grew.set()
        return len(text)

    def flush(self) -> None:
        """Does nothing: every write goes to the file at once."""

    def close(self) -> None:
        """Send the remaining text and stop."""
        with self._lock:
            self._is_open = False
        if self._thread is not None:
            self._closing.set()
            self._grew.set()
            self._thread.join()
        self._file.close()

    def _send_often(self) -> None:
        while not self._closing.is_set():
            self._grew.wait()
            if not self._at_once:
                self._pause()
            self._send()
            if self._at_once:
                self._pause()
        self._send()

    def _pause(self) -> None:
        every_sec = self.every_sec if self._at_once else min(self.every_sec, FIRST_SEC * 2**self._num_pauses)
        self._num_pauses = min(self._num_pauses + 1, 60)
        self._closing.wait(max(every_sec, self._sent_bytes / BYTES_PER_SEC))

    def _send(self) -> None:
        """Upload the log if it has grown."""
        self._grew.clear()
        size_bytes = os.fstat(self._file.fileno()).st_size
        if size_bytes == self._sent_bytes:
            return
        try:
            # The upload needs a file that does not change.
            with temporary_folder() as folder:
                copy = folder / "rank.log"
                self._copy_to(copy, size_bytes)
                self.store.upload(self.key, copy, sha256=sha256_of(copy))
        except (StoreError, OSError) as error:
            if not self._failing:
                logger.warning("the log cannot be sent at the moment: %s", error)
            self._failing = True
            self._grew.set()
        else:
            self._sent_bytes, self._failing = size_bytes, False

    def _copy_to(self, path: Path, size_bytes: int) -> None:
        # Not by seek and read: the file's position is where the next line goes.
        with open(path, "wb") as copy:
            while block := os.pread(self._file.fileno(), min(BLOCK_BYTES, size_bytes - copy.tell()), copy.tell()):
                copy.write(block)


def _open_unnamed() -> FileIO:
    try:
        return tempfile.TemporaryFile(buffering=0)
    except OSError as error:
        raise explain_os_error(error, Path(tempfile.gettempdir())) from error


def _open_to_append(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab", buffering=0)
    except OSError as error:
        raise explain_os_error(error, path) from error
