"""A file for writers in C and C++ that do not survive a refused write.

HDF5 keeps what a full disk refused, tries again when the process ends, and crashes it; torch hides the error behind one
of its own. So the file notes the first error, accepts everything after it, and raises that error when it is closed.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from tsp.store.atomic import explain_os_error


class Sink(io.RawIOBase):
    """A new file, open for reading and writing. A context manager: its end raises what a write was refused with."""

    def __init__(self, path: str | Path) -> None:
        """Create or empty the file. Raises: StoreError if it cannot be."""
        super().__init__()
        self._path = Path(path)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise explain_os_error(error, self._path) from error
        self._position = self._size = 0
        self._refused: OSError | None = None

    def check(self) -> None:
        """Raises: StoreError if a write was refused."""
        if self._refused is not None:
            raise explain_os_error(self._refused, self._path) from self._refused

    def fileno(self) -> int:
        """The descriptor."""
        return self._file

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def write(self, data: Any) -> int:
        """Write all of it, or note what it is refused with."""
        left = memoryview(data).cast("B")
        num_bytes = len(left)
        try:
            while left and self._refused is None:
                count = os.pwrite(self._file, left, self._position + num_bytes - len(left))
                left = left[count:]
        except OSError as error:
            self._refused = error
        self._position += num_bytes
        if num_bytes:
            self._size = max(self._size, self._position)
        return num_bytes

    def readinto(self, buffer: Any) -> int:
        """As of any file."""
        view = memoryview(buffer).cast("B")
        data = os.pread(self._file, len(view), self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """As of any file, but for a refusal, which is noted."""
        self._size = self._position if size is None else size
        try:
            if self._refused is None:
                os.ftruncate(self._file, self._size)
        except OSError as error:
            self._refused = error
        return self._size

    def close(self) -> None:
        """Close it; a network file system may refuse only now what was written before, which is noted."""
        if self.closed:
            return
        super().close()
        try:
            os.close(self._file)
        except OSError as error:
            self._refused = self._refused or error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if kind is None:
            self.check()
