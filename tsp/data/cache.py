"""A bounded cache of videos from a store, shared by all processes of a machine.

Every object has a lock file, which also says which version of the object was fetched. A downloader holds it
exclusively, so an object is fetched once however many processes want it; readers share it, and an object that is held
is never evicted. Locks end with their process, and a file appears under its name only when it is complete, so a killed
process leaves nothing that could be taken for a video.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Self

from tsp.config.store import StoreConfig
from tsp.errors import ConfigError
from tsp.store.atomic import end_of_name
from tsp.store.base import Entry, Store
from tsp.store.locks import Lock, lock_file
from tsp.store.open import open_store
from tsp.store.owner import is_abandoned
from tsp.wording import counted_is

log = logging.getLogger(__name__)

MIB = 1 << 20


class VideoCache:
    """Objects of one store as local files, at most ``limit_bytes`` of them, those unused for longest evicted first."""

    def __init__(self, folder: Path, store: StoreConfig, *, limit_bytes: int) -> None:
        # Two data sets may hold files of the same name.
        self._folder = folder / hashlib.sha256(f"{store.endpoint_url} {store.uri}".encode()).hexdigest()[:16]
        self._config = store
        self._limit_bytes = limit_bytes
        self._listed: dict[str, dict[str, Entry]] = {}

    @contextmanager
    def reading(self, key: str) -> Iterator[Path]:
        """The object as a local file that is kept while the context lasts.

        Raises: MissingKeyError, StoreError or StoreUnreachableError; ConfigError if it is larger than the cache.
        """
        path = self._path(key)
        while True:
            with self._lock(key, shared=True):
                if path.exists():
                    os.utime(path)
                    yield path
                    return
            self.fetch(key)

    def fetch(self, key: str) -> int:
        """Download the object unless it is cached; returns its size in bytes.

        Raises: as ``reading``.
        """
        path = self._path(key)
        with self._lock(key) as lock:
            if not path.exists():
                entry = self._store.stat(key)
                self._make_room(key, entry.size_bytes)
                # Before the download: an object that is replaced meanwhile is then fetched again, later.
                lock.write(_version_of(entry))
                self._store.download(key, path)
            return path.stat().st_size

    def address(self, key: str) -> str:
        """The whole URI of an object, for messages."""
        return f"{self._config.uri.rstrip('/')}/{key}"

    def entries(self, prefix: str) -> dict[str, Entry]:
        """The store's objects by key, cached or not. A listing that ``drop_changed`` made is used, once."""
        return self._listed.pop(prefix, None) or self._list(prefix)

    def _list(self, prefix: str) -> dict[str, Entry]:
        return {entry.key: entry for entry in self._store.list(prefix)}

    def size_bytes(self) -> int:
        """Bytes of the files in the cache, unfinished downloads included."""
        return sum(size_bytes for _, size_bytes, _ in self._files())

    def _make_room(self, key: str, needed_bytes: int) -> None:
        if needed_bytes > self._limit_bytes:
            raise ConfigError(
                f"{self._config.uri}/{key} has {needed_bytes / MIB:.0f} MiB, which is more than the whole cache "
                f"({self._limit_bytes / MIB:.0f} MiB): raise data.cache_mib"
            )
        with _Flock(self._folder / "eviction.lock"):
            files = sorted(self._files())
            excess_bytes = sum(size_bytes for _, size_bytes, _ in files) + needed_bytes - self._limit_bytes
            for _, size_bytes, path in files:
                if excess_bytes <= 0:
                    return
                if self._evict(path):
                    excess_bytes -= size_bytes
        if excess_bytes > 0:
            log.warning(
                "the video cache is too small for the videos that are read at the same time: raise data.cache_mib"
            )

    def sweep(self) -> None:
        """Remove partial downloads of killed processes."""
        for _, _, path in self._files():
            if path.name.startswith(".") and is_abandoned(path):
                path.unlink(missing_ok=True)

    def drop_changed(self, prefix: str) -> None:
        """Remove files whose object was replaced since; nothing is listed for an empty cache.

        Args: prefix, of the keys. Raises: StoreError.
        """
        cached = {path: size_bytes for _, size_bytes, path in self._files()}
        if not cached:
            return
        self._listed[prefix] = there = self._list(prefix)
        changed = [
            path
            for key, entry in there.items()
            if (size_bytes := cached.get(path := self._path(key))) is not None
            and (size_bytes != entry.size_bytes or self._is_other_version(path, entry))
        ]
        dropped = [path for path in changed if self._evict(path)]
        if dropped:
            log.info(
                "%s dropped from the cache: %s has others of these names now",
                counted_is(len(dropped), "video"), self._config.uri,
            )  # fmt: skip

    def _is_other_version(self, path: Path, entry: Entry) -> bool:
        """Whether the object is not the one that was fetched: its ETag and its time must both be others, since some
        servers tell another ETag in listings. False where no version was recorded.
        """
        try:
            fetched = self._lock_path(path.name).read_text(errors="replace").split()
        except OSError:
            return False
        return len(fetched) == 2 and all(a != b for a, b in zip(fetched, _version_of(entry).split(), strict=True))

    def _evict(self, path: Path) -> bool:
        if path.name.startswith("."):
            return False  # an unfinished download
        with _Flock(self._lock_path(path.name), wait=False) as lock:
            # Without locks someone may be reading it.
            if lock.state is Lock.HELD:
                path.unlink(missing_ok=True)
        return lock.state is Lock.HELD

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Time of last use, size and path of every file."""
        try:
            entries = list(os.scandir(self._folder / "files"))
        except FileNotFoundError:
            return
        for entry in entries:
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # renamed or evicted just now
            yield status.st_mtime_ns, status.st_size, Path(entry.path)

    def _path(self, key: str) -> Path:
        name = end_of_name(Path(key))
        return self._folder / "files" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}-{name}"

    def _lock(self, key: str, *, shared: bool = False) -> _Flock:
        return _Flock(self._lock_path(self._path(key).name), shared=shared)

    def _lock_path(self, name: str) -> Path:
        return self._folder / "locks" / name

    @cached_property
    def _store(self) -> Store:
        return open_store(self._config)

    def __getstate__(self) -> dict[str, object]:
        # Worker processes are never forked from this one: they get a copy, which opens connections of its own.
        return {name: value for name, value in self.__dict__.items() if name != "_store"} | {"_listed": {}}


def _version_of(entry: Entry) -> str:
    """Two words, the ETag and the time in whole seconds: more of it is not told with a single object."""
    etag = entry.version.strip('"') or "-"
    return f"{etag} {int(entry.modified.timestamp())}"


class _Flock:
    """Holds a file lock."""

    def __init__(self, path: Path, *, shared: bool = False, wait: bool = True) -> None:
        self._path = path
        self._shared, self._wait = shared, wait
        self._descriptor = -1
        self.state = Lock.UNSUPPORTED

    def write(self, text: str) -> None:
        """Replace the content of the lock file, if the disk has room for it."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            (self._path.parent.parent / "files").mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self.state = lock_file(self._descriptor, shared=self._shared, wait=self._wait)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
