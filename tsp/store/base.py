"""The interface of stores: a local folder or a bucket of an S3-compatible server.

Keys are relative to the store's URI and separated by "/". Every write is atomic: a reader sees the old object or the
new one. Nothing heavy is imported before a bucket is used.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from tsp.errors import MissingKeyError, StoreError
from tsp.store.atomic import new_file
from tsp.store.retry import RetryPolicy
from tsp.store.scratch import scratch
from tsp.store.transfer import ProgressCallback, Source, download_latest, matches, persistent_chunks, sha256_of

__all__ = ["Entry", "KeyExistsError", "ProgressCallback", "Store", "join_key", "sha256_of"]

PARALLEL_DELETES = 8
CHANGES, MOST_PAUSE_SEC = 20, 0.5
"""How often a change is tried while others change the object, and the longest pause between two tries."""
SMALL_BYTES = 1 << 20
"""Up to this size a listed object is read at once, which leaves nothing to resume."""
DEFAULT_PART_BYTES = 16 << 20
"""Objects above this size travel to S3 in parts of it."""


class KeyExistsError(StoreError):
    """Something is stored under that key already, and it was not to be replaced."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object."""

    key: str
    size_bytes: int
    modified: datetime
    """With time zone, by the store's clock."""
    version: str = ""
    """Differs when the content does: an ETag, where the store has one."""


class Store(ABC):
    """What every store can do. Safe to use from several threads, after a fork, and pickled."""

    is_local: ClassVar[bool] = False
    """Whether its objects are files of this machine."""
    uri: str
    """Without a trailing slash."""
    retry: RetryPolicy

    @property
    def real_uri(self) -> str:
        """The URI for checking whether one store is inside another: links resolved, with a trailing slash."""
        return f"{self.uri}/"

    @property
    def keeps_versions(self) -> bool:
        """Whether it was seen that a deletion leaves older versions of an object behind."""
        return False

    def address(self, key: str) -> str:
        """The whole URI of a key, for messages."""
        return f"{self.uri}/{key}"

    @abstractmethod
    def read(self, key: str, *, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
        """The object's bytes from an offset on; empty at or past its end.

        Args: size_bytes, how many at most; None for all.
        Raises: MissingKeyError.
        """

    def content(self, key: str) -> bytes | None:
        """A small object; None if there is none."""
        try:
            return self.read(key)
        except MissingKeyError:
            return None

    @abstractmethod
    def write(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Store a small object.

        ``only_if_absent`` is certain in a local folder; in S3 it is certain only if the server honours conditional
        writes, and otherwise it only detects objects that existed a moment before.

        Raises: KeyExistsError.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        """Store a small object if what is there is still what was read. Of several that replace it at once, one does.

        Args: expected, what was read; None if there was none. Returns: whether it did.
        """

    def change(self, key: str, changed: Callable[[bytes | None], bytes]) -> None:
        """Read a small object, change it and write it back, without losing what others write meanwhile.

        Args: changed, makes the new content of the present one (None if there is none); called again if that changes.
        Raises: as ``changed``; StoreError if others change it all the time.
        """
        for _ in range(CHANGES):
            before = self.content(key)
            after = changed(before)
            if after == before or self.replace(key, after, expected=before):
                return
            time.sleep(random.uniform(0, MOST_PAUSE_SEC))  # noqa: S311, a pause
        raise StoreError(f"{self.address(key)} was not written: others change it all the time; try again later")

    @abstractmethod
    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        """Store a file and verify that the store has exactly its bytes.

        Raises: StoreError if the file no longer has that SHA-256, or the store does not have it afterwards.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Objects whose key starts with ``prefix``, sorted by key."""

    @abstractmethod
    def list_folders(self, prefix: str = "") -> Iterator[str]:
        """Names of the folders directly inside the folder ``prefix``, sorted."""

    @abstractmethod
    def stat(self, key: str) -> Entry:
        """Size and time of an object.

        Raises: MissingKeyError.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    @abstractmethod
    def check_writable(self) -> None:
        """Write, read and remove a small object.

        Raises: StoreError that says what to do.
        """

    @abstractmethod
    def _source(self, key: str, entry: Entry | None = None) -> Source:
        """The object as a source of downloads; a known entry saves a request."""

    def read_head(self, key: str, size_bytes: int) -> bytes:
        """The object's first bytes; the others are not fetched.

        Raises: MissingKeyError.
        """
        head = b""
        for chunk in persistent_chunks(self._source(key), 0, retry=self.retry):
            head += chunk
            if len(head) >= size_bytes:
                break
        return head[:size_bytes]

    def exists(self, key: str) -> bool:
        """Whether something is stored under that key."""
        try:
            self.stat(key)
        except MissingKeyError:
            return False
        return True

    def delete_all(self, prefix: str) -> None:
        """Remove every object whose key starts with ``prefix``, by its full key, whatever the key looks like.

        S3's DeleteObjects is not used: it needs a checksum header that some servers refuse.
        Raises: the first failure, after all others are removed.
        """
        self._delete_keys(entry.key for entry in self.list(prefix))

    def _delete_keys(self, keys: Iterable[str]) -> None:
        def delete(key: str) -> StoreError | None:
            try:
                self.delete(key)
            except StoreError as error:
                return error
            return None

        with ThreadPoolExecutor(PARALLEL_DELETES, thread_name_prefix="delete") as pool:
            failures = [error for error in pool.map(delete, list(keys)) if error is not None]
        if failures:
            raise failures[0]

    @abstractmethod
    def now(self) -> datetime:
        """The time by the clock that stamps the store's objects."""

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        progress: ProgressCallback | None = None,
        entry: Entry | None = None,
        sync: bool = True,
    ) -> None:
        """Download an object into a file: resumed if it was interrupted, verified, renamed when complete.

        Args: sha256, the expected digest or its first digits; entry, of the object as ``list`` gave it,
            which saves asking for it; sync, sync it to the disk before it is renamed: not needed for files that can be
            downloaded again after a power failure, and often slower than the network.
        Raises: MissingKeyError; StoreError if it is damaged or the file cannot be written; StoreUnreachableError.
        """
        if entry is not None and entry.size_bytes <= SMALL_BYTES:
            data = self.read(key)
            if sha256 is None or matches(hashlib.sha256(data).hexdigest(), sha256):
                with new_file(path, sync=sync) as temp:
                    temp.write_bytes(data)
                if progress is not None:
                    progress(len(data), len(data))
                return
        known = [entry]

        def find() -> Source:
            return self._source(key, known.pop() if known else None)

        download_latest(find, path, sha256=sha256, progress=progress, retry=self.retry, sync=sync)

    @contextmanager
    def reading(self, key: str, *, head_bytes: int | None = None) -> Iterator[Path]:
        """A local path under which the object can be read while the context lasts.

        Args: head_bytes, enough of its beginning if not all is needed.
        Raises: MissingKeyError; in a local folder a missing file shows when it is opened.
        """
        with scratch() as folder:
            path = folder / key.rpartition("/")[2]
            if head_bytes is None:
                self.download(key, path)
            else:
                path.write_bytes(self.read_head(key, head_bytes))
            yield path

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A local path to write a file to; if the block succeeds, the store has it, complete and verified."""
        with scratch() as folder:
            path = folder / key.rpartition("/")[2]
            yield path
            self.upload(key, path, sha256=sha256_of(path))

    def local_path(self, key: str) -> Path | None:
        """The object's path on this machine's disk, or None for a remote store."""
        check_key(key)
        return None


def check_key(key: str) -> None:
    """Refuse a key that is empty or would leave the store.

    Raises: StoreError.
    """
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise StoreError(f"{key!r} is not a valid key: it needs names separated by single slashes")


def file_name_of(key: str) -> str:
    """A relative path for a key that another program may have made: no part is empty, leaves the folder or has
    characters that file systems refuse. Our own keys are unchanged."""
    parts = [part.replace("\0", "%00") or "%2F" for part in key.split("/")]
    return "/".join(part.replace(".", "%2E") if part in (".", "..") else part for part in parts)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that would leave the store.

    Raises: StoreError.
    """
    if prefix.startswith("/") or ".." in prefix.split("/"):
        raise StoreError(f"{prefix!r} is not a valid key prefix: it must not start with a slash or hold '..'")


def join_key(*parts: str) -> str:
    """Parts of a key joined by slashes, empty ones left out."""
    return "/".join(part for part in parts if part)


def free_bytes(store: Store) -> int | None:
    """Bytes left on the store's disk; None if it is no folder here."""
    path = store.local_path("any")
    if path is None:
        return None
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
