"""The hidden file of a download until it is complete."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path

from tsp.store.atomic import PART_SUFFIX, end_of_name
from tsp.store.locks import lock_file
from tsp.store.owner import forget_owner, is_abandoned, new_owner

BLOCK_BYTES = 1 << 20
WRITE_BACK_BYTES = 64 << 20
"""The disk is set to work each time so much has gathered, rather than at the end."""


class Part:
    """The file of one download, ``.<name>.<version>.<owner>.part`` next to the target; it is written in order."""

    def __init__(self, target: Path, path: Path, owner: str, *, sync: bool) -> None:
        self.target, self.path, self.owner, self.sync = target, path, owner, sync
        self._file: BufferedRandom = open(path, "a+b")  # noqa: SIM115, kept open
        # Tells others on this file system, if it supports locks, that the file is in use.
        lock_file(self._file, wait=False)
        self.size_bytes = self._file.seek(0, os.SEEK_END)
        self._written_back_bytes = self.size_bytes
        self._write_back: threading.Thread | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, target: Path, version: str, *, may_resume: bool, sync: bool = True) -> Iterator[Part]:
        """A part of that version that a dead process left, else an empty one; stale parts are removed. It is kept if
        the block fails, unless it is empty. Args: sync, sync it to the disk before it is published.
        """
        owner = new_owner()
        path = target.with_name(f"{_start(target)}{version}.{owner}{PART_SUFFIX}")
        try:
            _take_over(target, version, path, may_resume=may_resume)
            part = cls(target, path, owner, sync=sync)
            try:
                yield part
            finally:
                part.close()
        finally:
            forget_owner(owner)

    def blocks(self) -> Iterator[bytes]:
        """Its content."""
        self._file.seek(0)
        while block := self._file.read(BLOCK_BYTES):
            yield block

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self._file.write(data)
        self.size_bytes += len(data)
        if self.sync and self.size_bytes - self._written_back_bytes >= WRITE_BACK_BYTES:
            self._written_back_bytes = self.size_bytes
            self._start_write_back()

    def publish(self) -> bool:
        """Rename it to the target; False if another process removed it or wrote to it."""
        self._file.flush()
        if self.sync:
            os.fsync(self._file.fileno())
        if os.fstat(self._file.fileno()).st_size != self.size_bytes:
            return False
        try:
            os.replace(self.path, self.target)
        except FileNotFoundError:
            return False
        return True

    def restart(self) -> None:
        """Empty it."""
        self._file.truncate(0)
        self.size_bytes = self._written_back_bytes = 0

    def discard(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        if self._write_back is not None:
            self._write_back.join()
        with contextlib.suppress(OSError):
            self._file.close()
            if self.path.stat().st_size == 0:
                self.path.unlink()

    def _start_write_back(self) -> None:
        if self._write_back is not None and self._write_back.is_alive():
            return
        self._file.flush()
        self._write_back = threading.Thread(target=_sync, args=(self._file.fileno(),), daemon=True)
        self._write_back.start()


def _sync(descriptor: int) -> None:
    # Whatever is wrong with the disk shows again when the file is published.
    with contextlib.suppress(OSError):
        os.fdatasync(descriptor)


def _take_over(target: Path, version: str, path: Path, *, may_resume: bool) -> None:
    """Give the largest abandoned part of that version the name ``path``; remove the other abandoned ones."""
    left = [part for part in _parts_of(target) if is_abandoned(part)]
    left.sort(key=lambda part: part.stat().st_size if part.exists() else 0, reverse=True)
    for part in left:
        with contextlib.suppress(OSError):
            if may_resume and not path.exists() and part.name.startswith(f"{_start(target)}{version}."):
                os.rename(part, path)
            else:
                part.unlink()


def _start(target: Path) -> str:
    return f".{end_of_name(target)}."


def _parts_of(target: Path) -> list[Path]:
    start = _start(target)
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start) and entry.name.endswith(PART_SUFFIX)]
    return [target.parent / name for name in names]
