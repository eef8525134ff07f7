"""Where the data tools read and write: a folder of this machine, or S3 through files that live for a moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from tsp.config.run import StoreConfig
from tsp.errors import ConfigError, DataError, MissingKeyError
from tsp.store.base import sha256_of
from tsp.store.fetch import cache_folder, fetch_object
from tsp.store.open import open_store, path_of_file_uri, with_uri
from tsp.store.transfer import explain_os_error

HEAD_BYTES = 8 << 20
"""Holds the index of any video that was written with its index in front."""
LOCK = ".lock"


class Place(Protocol):
    """Files by name, relative to one folder or prefix. Pickled to every process."""

    root: str
    """Where it really lies, links followed, with a slash at its end."""

    def address(self, name: str) -> str:
        """The whole path or URI of a file, for messages."""

    def files(self) -> dict[str, int]:
        """Size in bytes of every file by its name, sorted; hidden ones are left out.

        Raises: DataError if the folder does not exist.
        """

    def size_bytes(self, name: str) -> int | None:
        """Size of a file; None if there is none."""

    def opened(self, name: str) -> AbstractContextManager[Path]:
        """A local path under which the file can be read while the context lasts."""

    def head(self, name: str) -> AbstractContextManager[Path]:
        """The same, but only the beginning of the file need be there."""

    def new(self, name: str) -> AbstractContextManager[Path]:
        """A local path to write the whole file to; it is in its place when the block has ended well."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""


class Folder:
    """A folder of this machine. Who writes into it does so by rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = os.path.realpath(path).rstrip("/") + "/"

    def address(self, name: str) -> str:
        """See Place."""
        return str(self.path / name)

    def files(self) -> dict[str, int]:
        """See Place."""
        if not self.path.is_dir():
            raise DataError(f"the folder {self.path} does not exist")
        found = {path.relative_to(self.path).as_posix(): path for path in self.path.rglob("*") if path.is_file()}
        return {name: found[name].stat().st_size for name in sorted(found) if not _is_hidden(name)}

    def size_bytes(self, name: str) -> int | None:
        """See Place."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """See Place."""
        yield self.path / name

    head = opened

    @contextmanager
    def new(self, name: str) -> Iterator[Path]:
        """See Place."""
        yield self.path / name

    def remove(self, name: str) -> None:
        """See Place."""
        (self.path / name).unlink(missing_ok=True)


class Prefix:
    """Objects below a prefix of a bucket; each is brought here, or made here and uploaded, on its own."""

    def __init__(self, config: StoreConfig) -> None:
        self._store = open_store(config)
        self.root = f"{self._store.uri}/"

    def address(self, name: str) -> str:
        """See Place."""
        return self._store.address(name)

    def files(self) -> dict[str, int]:
        """See Place."""
        return {entry.key: entry.size_bytes for entry in self._store.list() if not _is_hidden(entry.key)}

    def size_bytes(self, name: str) -> int | None:
        """See Place."""
        try:
            return self._store.stat(name).size_bytes
        except MissingKeyError:
            return None

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """See Place."""
        with scratch() as folder:
            path = folder / Path(name).name
            self._store.download(name, path)
            yield path

    @contextmanager
    def head(self, name: str) -> Iterator[Path]:
        """See Place."""
        with scratch() as folder:
            path = folder / Path(name).name
            path.write_bytes(self._store.read_head(name, HEAD_BYTES))
            yield path

    @contextmanager
    def new(self, name: str) -> Iterator[Path]:
        """See Place. The upload is verified."""
        with scratch() as folder:
            path = folder / Path(name).name
            yield path
            self._store.upload(name, path, sha256=sha256_of(path))

    def remove(self, name: str) -> None:
        """See Place."""
        self._store.delete(name)


def open_place(address: str, settings: StoreConfig | None) -> Place:
    """The place that a path or URI names.

    Args: settings, how to speak to the S3 server; its URI is not used.
    Raises: ConfigError for another kind of URI.
    """
    if address.startswith("s3://"):
        return Prefix(with_uri(settings, address.rstrip("/")))
    return Folder(local_path(address))


def local_path(address: str) -> Path:
    """The path that an address on this machine means.

    Raises: ConfigError for a URI that names nothing on this machine.
    """
    if address.startswith("file://"):
        return path_of_file_uri(address)
    if "://" in address:
        raise ConfigError(f"{address!r}: only s3://bucket/prefix, file:///folder and folders are known")
    return Path(address).expanduser()


def fetched(address: str, settings: StoreConfig | None) -> Path:
    """A table, label map or annotation file, brought here if it does not lie here.

    Raises: DataError if there is none; StoreError.
    """
    if "://" not in address:
        return local_path(address)
    try:
        return fetch_object(address, cache_folder("tables"), settings=settings)
    except ConfigError as error:
        raise DataError(str(error)) from error


@contextmanager
def fetched_folder(address: str, settings: StoreConfig | None, *, suffix: str) -> Iterator[Path]:
    """A folder with the files of a place that end so, brought here for as long as the context lasts."""
    if not address.startswith("s3://"):
        yield local_path(address)
        return
    place = open_place(address, settings)
    with scratch() as folder:
        for name in filter(lambda name: name.endswith(suffix), place.files()):
            with place.opened(name) as path:
                shutil.copy(path, folder / Path(name).name)
        yield folder


@contextmanager
def published(address: str, settings: StoreConfig | None) -> Iterator[Path]:
    """A local path to write a table to; when the block has ended well it is at its address, whole.

    Raises: ConfigError if the address names no file; StoreError.
    """
    if not address.startswith("s3://"):
        with new_file(local_path(address)) as path:
            yield path
        return
    uri, _, name = address.rpartition("/")
    if not name or uri == "s3:/":
        raise ConfigError(f"{address} names no file: it takes s3://bucket/key")
    with Prefix(with_uri(settings, uri)).new(name) as path:
        yield path


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one file on its way. It is locked while it is used, so what killed processes left can be told."""
    base = cache_folder("scratch")
    with contextlib.ExitStack() as stack:
        try:
            base.mkdir(parents=True, exist_ok=True)
            # No one may sweep between the making of a folder and its lock.
            with open(base / LOCK, "wb") as all_of_them:
                fcntl.flock(all_of_them, fcntl.LOCK_EX)
                _sweep(base)
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base)))
                fcntl.flock(stack.enter_context(open(folder / LOCK, "wb")), fcntl.LOCK_EX)
        except OSError as error:
            raise explain_os_error(error, base) from error
        yield folder


def _sweep(base: Path) -> None:
    for left in base.glob(f"*/{LOCK}"):
        with contextlib.suppress(OSError), open(left, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; renamed to ``path`` when the block ends well, removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
