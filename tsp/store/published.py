"""Copies the published files of a data set to a folder or S3: verified, resumed, never overwriting."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tsp.config.published_data import RAW_URL, REPOSITORY, PublishedFile, published_files
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError, StoreUnreachableError
from tsp.store.base import Store, sha256_of
from tsp.store.open import open_store, with_uri
from tsp.store.retry import RetryPolicy
from tsp.store.scratch import cache_folder
from tsp.store.transfer import download_latest
from tsp.store.web import http_source

BLOCK_BYTES = 1 << 20
ID_CHARS_SHOWN = 12


class UnusableFileError(StoreError):
    """The source lacks one of the files, or has a different one."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One file that is in place."""

    name: str
    state: Literal["downloaded", "there already"]
    size_bytes: int


def blob_id(path: Path) -> str:
    """Git's id of a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def keys_of(file: PublishedFile) -> Iterator[str]:
    """The possible keys of a file in a clone or mirror: below any of its folders, or next to the other files of its
    data set."""
    folders = file.path.split("/")[:-1]
    for start in range(len(folders) + 1):
        yield "/".join([*folders[start:], file.name])
    data_set = folders[:2]
    for start in range(len(data_set)):
        yield "/".join([*data_set[start:], file.name])


class PublishedSource:
    """Where the files are taken from: the authors' repository, or a clone or mirror of it."""

    def __init__(self, address: str | None, settings: StoreConfig | None, retry: RetryPolicy) -> None:
        """Args: address, a folder, s3:// or https://; None for the repository itself."""
        self.address = (address or RAW_URL).rstrip("/")
        self._retry = retry
        is_web = self.address.startswith(("https://", "http://"))
        self._store = None if is_web else open_store(with_uri(settings, self.address), retry=retry)
        if self._store is not None and self._store.is_local and not Path(self._store.uri).is_dir():
            what = "is not a folder" if Path(self._store.uri).exists() else "does not exist"
            raise ConfigError(f"{self.address} {what}: give a clone, or a folder with the files")

    def fetch(self, file: PublishedFile, path: Path) -> None:
        """Bring a file to ``path``, resumed where an earlier try broke off.

        Raises: UnusableFileError if it is nowhere in the source; StoreError, StoreUnreachableError.
        """
        tried = list(dict.fromkeys(keys_of(file)))
        for key in tried:
            try:
                self._fetch_key(key, path)
            except MissingKeyError:
                continue
            return
        raise UnusableFileError(f"{self.address} lacks {file.name} (tried {', '.join(tried)})")

    def _fetch_key(self, key: str, path: Path) -> None:
        if self._store is not None:
            if not self._store.exists(key):
                raise MissingKeyError(key)
            self._store.download(key, path)
            return
        find = functools.partial(http_source, f"{self.address}/{key}", self._retry)
        download_latest(find, path, retry=self._retry)


def download_dataset(
    dataset: str,
    dest: Store,
    *,
    source: str | None = None,
    settings: StoreConfig | None = None,
    overwrite: bool = False,
    arrived: Callable[[Arrival], None] = lambda _: None,
    retry: RetryPolicy | None = None,
) -> list[Arrival]:
    """Copy every published file of a data set into a store; existing files are kept.

    Args: source, a folder, s3:// or https:// with a clone or mirror; None for the authors' repository; settings, how to
        reach an s3:// source; arrived, told of each file.
    Raises: ConfigError if another file of that name is in the way; StoreError if a file is damaged or missing in the
        source; StoreUnreachableError, which names the addresses and the option that does without network.
    """
    files = published_files(dataset)
    origin = PublishedSource(source, settings, retry or RetryPolicy())
    cache = cache_folder("published")
    arrivals: list[Arrival] = []
    unusable: list[UnusableFileError] = []
    for number, file in enumerate(files):
        there = _arrival_of(file, dest, overwrite)
        if there is None:
            path = cache / f"{file.blob_id}-{file.name}"
            try:
                origin.fetch(file, path)
                there = _publish(file, path, dest, origin.address)
            except StoreUnreachableError as error:
                raise _without_network(files[number:], error) from error
            except UnusableFileError as error:
                # The others can be had all the same, and one message has all that is wrong.
                unusable.append(error)
                continue
        arrivals.append(there)
        arrived(there)
    if unusable:
        raise UnusableFileError("\n".join(map(str, unusable)))
    return arrivals


def _arrival_of(file: PublishedFile, dest: Store, overwrite: bool) -> Arrival | None:
    if not dest.exists(file.name):
        return None
    with dest.reading(file.name) as path:
        found, size_bytes = blob_id(path), path.stat().st_size
    if found == file.blob_id:
        return Arrival(file.name, "there already", size_bytes)
    if overwrite:
        return None
    raise ConfigError(
        f"{dest.address(file.name)} exists but is not the published file (its git id is {found[:ID_CHARS_SHOWN]}, not "
        f"{file.blob_id[:ID_CHARS_SHOWN]}): move it away, or replace it with --overwrite"
    )


def _publish(file: PublishedFile, path: Path, dest: Store, where: str) -> Arrival:
    found, size_bytes = blob_id(path), path.stat().st_size
    try:
        if found != file.blob_id:
            raise UnusableFileError(
                f"{where}: {file.path} is damaged or another version (its git id is {found[:ID_CHARS_SHOWN]}, not "
                f"{file.blob_id[:ID_CHARS_SHOWN]}): try again, or give a good clone of {REPOSITORY} with --from"
            )
        dest.upload(file.name, path, sha256=sha256_of(path))
    finally:
        path.unlink(missing_ok=True)
    return Arrival(file.name, "downloaded", size_bytes)


def _without_network(files: Sequence[PublishedFile], error: StoreError) -> StoreUnreachableError:
    addresses = "\n".join(f"  {address}" for address in _addresses(files))
    return StoreUnreachableError(
        f"{error}\nwithout network access, copy these files from another machine, and give their folder, or a "
        f"clone of {REPOSITORY}, with --from FOLDER:\n{addresses}"
    )


def _addresses(files: Sequence[PublishedFile]) -> Iterator[str]:
    return (f"{RAW_URL}/{file.path}" for file in files)
