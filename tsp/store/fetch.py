"""Fetch one object, weights or a checkpoint, from a file, S3 or the web, once per machine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tsp.config.address import FETCHED, check_address, check_scheme
from tsp.config.released import RELEASED_FILES
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, StoreError, StoreUnreachableError
from tsp.store.atomic import explain_os_error
from tsp.store.base import Store
from tsp.store.locks import lock_file
from tsp.store.open import open_store, path_of_file_uri, with_uri
from tsp.store.retry import RetryPolicy
from tsp.store.scratch import cache_folder
from tsp.store.transfer import ProgressCallback, download_latest, matches, sha256_of
from tsp.store.web import http_size, http_source

NO_NETWORK_HINT = (
    "without network access, download it elsewhere and give it with --pretrained FILE or --pretrained "
    "s3://bucket/key (or --resume), start from random weights with --pretrained none, or copy released "
    "checkpoints to a mirror with 'tspctl models pull NAME --to URI' and set models_url to it"
)


def fetch_object(
    uri: str,
    cache_dir: Path,
    *,
    settings: StoreConfig | None = None,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    retry: RetryPolicy | None = None,
) -> Path:
    """The local file that holds an object.

    A local file is used in place. Other objects are downloaded into ``cache_dir`` under a file lock, so that of several
    processes one downloads and the others wait; resumed if interrupted, verified, renamed when complete. A released
    checkpoint is identified by its file's name, wherever it comes from: it is verified against its digest and kept once
    per machine.

    Args: uri, a path, file://, s3://, https:// or http://; settings, how to speak to the S3 server (its URI is not
        used); sha256, the expected digest or its first digits; retry, for tests.
    Raises: ConfigError for another kind of URI or a missing file, StoreError (refused, damaged, no space),
        StoreUnreachableError that says how to provide the object without network.
    """
    check_address("the address", uri, may_be_signed=True)
    published = RELEASED_FILES.get(Path(urlsplit(uri).path).name)
    if published is not None:
        sha256 = sha256 or published.sha256_prefix
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme == "file":
        path = path_of_file_uri(uri) if separator else Path(uri).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no file {path}")
        _check_file(path, sha256)
        return path
    check_scheme("the address", uri, *FETCHED)
    try:
        return _fetch_once(uri, cache_dir, settings, sha256, progress, retry or RetryPolicy())
    except StoreUnreachableError as error:
        raise StoreUnreachableError(f"{error}; {NO_NETWORK_HINT}") from error


def _fetch_once(
    uri: str,
    cache_dir: Path,
    settings: StoreConfig | None,
    sha256: str | None,
    progress: ProgressCallback | None,
    retry: RetryPolicy,
) -> Path:
    name = Path(urlsplit(uri).path).name or "object"
    # If the digest is unknown, an object in S3 that was replaced must not be taken from the cache.
    version = _s3_version(uri, settings, retry) if uri.startswith("s3://") and sha256 is None else ""
    path = cache_dir / f"{hashlib.sha256(f'{uri}{version}'.encode()).hexdigest()[:16]}-{name}"
    if name in RELEASED_FILES:
        path = cached_release(name)
    with _locked(path):
        if path.is_file():
            try:
                _check_file(path, sha256)
            except StoreError:
                path.unlink()
            else:
                return path
        if uri.startswith("s3://"):
            store, key = _bucket_and_key(uri, settings, retry)
            store.download(key, path, sha256=sha256, progress=progress)
        else:
            find = functools.partial(http_source, uri, retry)
            download_latest(find, path, sha256=sha256, progress=progress, retry=retry)
    return path


def size_of(uri: str, settings: StoreConfig | None = None) -> int | None:
    """Size in bytes of the object that ``fetch_object`` would fetch; None if a web server does not provide it.

    Raises: as ``fetch_object``; nothing is downloaded, and nothing is retried.
    """
    if uri.startswith(("http://", "https://")):
        return http_size(uri)
    if uri.startswith("s3://"):
        store, key = _bucket_and_key(uri, settings, RetryPolicy(attempts=1))
        return store.stat(key).size_bytes
    path = path_of_file_uri(uri) if uri.startswith("file://") else Path(uri).expanduser()
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    return path.stat().st_size


def cached_release(file: str) -> Path:
    """The path of a released checkpoint on this machine, cached or not."""
    return cache_folder("models") / file


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a cached file; it is released with the process, however that ends."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "wb")  # noqa: SIM115, kept open
    except OSError as error:
        raise explain_os_error(error, lock.parent) from error
    with file:
        lock_file(file)
        yield


def _check_file(path: Path, sha256: str | None) -> None:
    if sha256 is not None and not matches(digest := sha256_of(path), sha256):
        raise StoreError(
            f"{path} has SHA-256 {digest}, expected {sha256}{'...' if len(sha256) < 64 else ''}: it is damaged or "
            "another file; download it again"
        )


def _bucket_and_key(uri: str, settings: StoreConfig | None, retry: RetryPolicy) -> tuple[Store, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key or key.endswith("/"):
        raise ConfigError(f"{uri!r} has no object: write s3://bucket/key")
    return open_store(with_uri(settings, f"s3://{bucket}"), retry=retry), key


def _s3_version(uri: str, settings: StoreConfig | None, retry: RetryPolicy) -> str:
    store, key = _bucket_and_key(uri, settings, retry)
    entry = store.stat(key)
    return f"{entry.size_bytes} {entry.modified}"
