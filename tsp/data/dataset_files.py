"""Where the files of a data set lie: tables, label maps, features and videos, in a folder or in S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from tsp.config.run import DataConfig, StoreConfig
from tsp.data.cache import MIB, VideoCache
from tsp.data.video import VideoError
from tsp.data.video.training_copy import training_copy_name
from tsp.errors import ConfigError, DataError, MissingKeyError
from tsp.store.base import join_key
from tsp.store.fetch import cache_folder, fetch_object
from tsp.store.open import path_of_file_uri, with_uri

NO_COPY_HINT = "make it with 'tspctl data standardize --training-copy', or train without data.training_copy"


class VideoPlace(Protocol):
    """Where the videos of one subset are read from. Pickled to every data worker."""

    def opened(self, filename: str) -> AbstractContextManager[Path]:
        """A local path under which the file can be opened and read while the context lasts."""


class LocalVideos:
    """Videos in a folder of this machine."""

    def __init__(self, folder: Path, *, training_copy: bool = False) -> None:
        self._folder = folder
        self._training_copy = training_copy

    @contextmanager
    def opened(self, filename: str) -> Iterator[Path]:
        """The file in the folder; whether a video is there shows when it is opened.

        Raises: DataError if there is no training copy.
        """
        path = self._folder / (training_copy_name(filename) if self._training_copy else filename)
        if self._training_copy and not path.exists():
            raise DataError(f"there is no training copy {path}: {NO_COPY_HINT}")
        yield path


class StoredVideos:
    """Videos in S3, read through the machine's cache."""

    def __init__(self, cache: VideoCache, uri: str, folder: str, *, training_copy: bool = False) -> None:
        self.cache = cache
        self._training_copy = training_copy
        self._uri = uri
        self._folder = folder

    def key(self, filename: str) -> str:
        """The file's key in the store."""
        name = training_copy_name(filename) if self._training_copy else filename
        return join_key(self._folder.strip("/"), name)

    @contextmanager
    def opened(self, filename: str) -> Iterator[Path]:
        """The cached file, downloaded if it is not there.

        Raises: VideoError if the store has no such video, DataError if no such training copy; StoreError as the cache.
        """
        key = self.key(filename)
        try:
            file = self.cache.opened(key)
            path = file.__enter__()
        except MissingKeyError as error:
            if self._training_copy:
                raise DataError(f"there is no training copy {self._uri}/{key}: {NO_COPY_HINT}") from error
            raise VideoError(f"there is no video {self._uri}/{key}") from error
        try:
            yield path
        finally:
            file.__exit__(None, None, None)


class DatasetFiles:
    """The data set's root, on this machine or in S3."""

    def __init__(self, config: DataConfig, store: StoreConfig | None = None) -> None:
        """store, how to speak to the S3 server; its URI is not used."""
        self._config = config
        self._settings = with_uri(store, config.root.rstrip("/"))
        self._is_remote = config.root.startswith("s3://")
        self._cache_dir = Path(config.cache_dir) if config.cache_dir else cache_folder("videos")

    def table(self, relative: str) -> Path:
        """A table, label map or features file, brought here if it lies in S3.

        Raises: ConfigError if the root is no folder; StoreError.
        """
        if self._is_remote:
            uri = f"{self._settings.uri}/{relative}"
            return fetch_object(uri, self._cache_dir / "tables", settings=self._settings)
        return self._root() / relative

    def videos(self, folder: str) -> VideoPlace:
        """The videos of one subset."""
        if not self._is_remote:
            return LocalVideos(self._root() / folder, training_copy=self._config.training_copy)
        cache = VideoCache(self._cache_dir, self._settings, limit_bytes=self._config.cache_mib * MIB)
        cache.sweep()
        return StoredVideos(cache, self._settings.uri, folder, training_copy=self._config.training_copy)

    def _root(self) -> Path:
        root = self._config.root
        path = path_of_file_uri(root) if root.startswith("file://") else Path(root).expanduser()
        if not path.is_dir():
            raise ConfigError(f"the data set's folder {path} does not exist: give the right one with --data")
        return path
