"""The store of a URI: the only module that imports all kinds of stores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tsp.config.store import StoreConfig
from tsp.errors import ConfigError
from tsp.store.base import DEFAULT_PART_BYTES, Store
from tsp.store.retry import RetryPolicy


def open_store(config: StoreConfig, *, retry: RetryPolicy | None = None, part_bytes: int = DEFAULT_PART_BYTES) -> Store:
    """The store that a configuration names; nothing is read or created yet.

    Args: config, with uri ``s3://bucket/prefix``, ``file:///folder`` or a folder; retry, for a remote store;
        part_bytes, size above which S3 uploads are split.
    Raises: ConfigError for any other kind of URI.
    """
    scheme, is_uri, _ = config.uri.partition("://")
    if not is_uri:
        from tsp.store.local import LocalStore

        return LocalStore(Path(config.uri).expanduser())
    if scheme == "file":
        from tsp.store.local import LocalStore

        return LocalStore(path_of_file_uri(config.uri))
    if scheme == "s3":
        from tsp.store.s3.store import S3Store

        return S3Store(config, retry=retry or RetryPolicy(), part_bytes=part_bytes)
    hint = "; store.endpoint_url names the server of a bucket" if scheme in ("http", "https") else ""
    raise ConfigError(
        f"store {config.uri!r} is not supported: use s3://bucket/prefix, file:///folder or a folder{hint}"
    )


def path_of_file_uri(uri: str) -> Path:
    """The path of a ``file:///...`` URI.

    Raises: ConfigError if it names another host or no absolute path.
    """
    split = urlsplit(uri)
    if split.netloc not in ("", "localhost") or not split.path.startswith("/"):
        raise ConfigError(f"{uri!r} is not a file URI: write three slashes, file:///folder")
    # "?" and "#" are ordinary characters of a path
    return Path(unquote(uri.partition("://")[2].removeprefix(split.netloc)))


def with_uri(config: StoreConfig | None, uri: str) -> StoreConfig:
    """The same connection settings, for another URI."""
    return StoreConfig(uri=uri) if config is None else dataclasses.replace(config, uri=uri)
