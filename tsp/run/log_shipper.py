"""Ships a rank's log to the store while it is being written.

The problem: a log matters most when its writer dies, an S3 object cannot be appended to, and a log must never slow down
the run. So the log of a local store is appended to; one for S3 is collected in a local file, and a thread uploads it
whole every few seconds if it grew, less often as it gets longer.

Invariants: ``write`` never blocks on the network and never raises; memory stays constant and the log bounded; what was
written before ``close`` is sent by it unless the store refuses.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
from io import FileIO
from pathlib import Path

from tsp.errors import StoreError
from tsp.store.atomic import explain_os_error
from tsp.store.base import Store, sha256_of

logger = logging.getLogger(__name__)

MAX_LOG_BYTES = 64 << 20
BYTES_PER_SEC = 1 << 20
"""Average bandwidth limit of repeated uploads."""


class LogShipper:
    """A text stream whose lines end up under a key of a store. For ``logging.StreamHandler(LogShipper(...))``.

    A failing store never stops the writer: it is reported once and retried.
    """

    def __init__(
        self, store: Store, key: str, *, every_sec: float = 5.0, at_once: bool = False, max_bytes: int = MAX_LOG_BYTES
    ) -> None:
        """Open the log.

        Args: every_sec, between uploads to a remote store; at_once, upload what is written right away, unless an
            upload has just been; max_bytes, after which lines are left out.
        Raises: StoreError if a local log cannot be opened.
        """
        self.store, self.key, self.every_sec, self.max_bytes = store, key, every_sec, max_bytes
        self._lock = threading.Lock()
        self._closing, self._grew, self._at_once = threading.Event(), threading.Event(), at_once
        self._failing = False
        self._sent_bytes = 0
        self._thread: threading.Thread | None = None
        path = store.local_path(key)
        if path is None:
            handle, name = tempfile.mkstemp(prefix="tspctl-log-")
            self._path, self._file = Path(name), open(handle, "ab", buffering=0)  # noqa: SIM115
            self._thread = threading.Thread(target=self._send_often, name="log-shipper", daemon=True)
            self._thread.start()
        else:
            self._path, self._file = path, _open_to_append(path)
        self._size_bytes = self._path.stat().st_size

    def write(self, text: str) -> int:
        """Append text to the file at once. Text beyond the limit is dropped, and the log says so."""
        data = text.encode(errors="replace")
        with self._lock:
            if self._size_bytes < self.max_bytes and not self._file.closed:
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
        """Send the rest and stop."""
        with self._lock:
            self._file.close()
        if self._thread is None:
            return
        self._closing.set()
        self._grew.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

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
        self._closing.wait(max(self.every_sec, self._sent_bytes / BYTES_PER_SEC))

    def _send(self) -> None:
        """Upload the log if it has grown."""
        self._grew.clear()
        size_bytes = self._path.stat().st_size
        if size_bytes == self._sent_bytes:
            return
        copy = self._path.with_suffix(".sending")
        try:
            # The upload needs a file that does not change.
            shutil.copyfile(self._path, copy)
            self.store.upload(self.key, copy, sha256=sha256_of(copy))
        except (StoreError, OSError) as error:
            if not self._failing:
                logger.warning("the log cannot be sent for now: %s", error)
            self._failing = True
            self._grew.set()
        else:
            self._sent_bytes, self._failing = copy.stat().st_size, False
        finally:
            copy.unlink(missing_ok=True)


def _open_to_append(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab", buffering=0)
    except OSError as error:
        raise explain_os_error(error, path) from error
