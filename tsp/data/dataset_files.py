"""The files of a data set, in a folder or in S3: tables, label maps, features and videos."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tsp.config.run import DataConfig
from tsp.config.store import StoreConfig
from tsp.data.cache import MIB, VideoCache
from tsp.data.copy_name import training_copy_name
from tsp.data.file_version import FileVersion, tag_of
from tsp.data.video import VideoError
from tsp.errors import ConfigError, DataError, MissingKeyError
from tsp.store.base import Entry, Store, join_key
from tsp.store.fetch import fetch_object
from tsp.store.local import LocalStore
from tsp.store.open import path_of_file_uri, with_uri
from tsp.store.scratch import cache_folder

NO_COPY_HINT = "make it with 'tspctl data standardize --training-copy', or train without data.training_copy"


class Videos:
    """The videos of one subset, in a local folder or in S3 behind its cache. Pickled to every data worker."""

    def __init__(self, source: Store | VideoCache, folder: str = "", *, training_copy: bool = False) -> None:
        """Args: folder, of the source; training_copy, read the training copies instead of the videos."""
        self._source = source
        self._folder = folder.strip("/")
        self._training_copy = training_copy

    @property
    def cache(self) -> VideoCache | None:
        """The cache of remote videos; None for local ones."""
        return self._source if isinstance(self._source, VideoCache) else None

    def key(self, filename: str) -> str:
        """The file's key in the source."""
        return join_key(self._folder, training_copy_name(filename) if self._training_copy else filename)

    @contextmanager
    def reading(self, filename: str) -> Iterator[Path]:
        """A local path of the video, valid while the context lasts.

        Raises: VideoError if the store has no such video (one missing in a local folder shows when it is opened);
            DataError if there is no training copy; StoreError as the cache.
        """
        key = self.key(filename)
        with ExitStack() as stack:
            try:
                path = stack.enter_context(self._source.reading(key))
            except MissingKeyError as error:
                raise self._missing(key) from error
            if self.cache is None and not path.exists():
                path = _spelled_otherwise(path)
                if self._training_copy and not path.exists():
                    raise self._missing(key)
            yield path

    def missing(self, filenames: Iterable[str]) -> list[str]:
        """Those of the files that are not there; one listing of the folder where it is remote."""
        keys = {filename: self.key(filename) for filename in filenames}
        if self.cache is not None:
            there = self._listed(self.cache)
            return [filename for filename, key in keys.items() if key not in there]
        return [filename for filename, key in keys.items() if not self._local(key).exists()]

    def versions(self, filenames: Iterable[str]) -> dict[str, FileVersion]:
        """Those of the files that are there; one listing of the folder where it is remote."""
        keys = {filename: self.key(filename) for filename in filenames}
        if self.cache is not None:
            there = self._listed(self.cache)
            return {name: FileVersion.of_entry(there[key]) for name, key in keys.items() if key in there}
        found = {}
        for filename, key in keys.items():
            with suppress(OSError):
                found[filename] = FileVersion.of_file(self._local(key))
        return found

    def with_tag(self, filename: str, version: FileVersion) -> FileVersion:
        """The version with the tag of its content, for which a local file is opened."""
        if self.cache is not None:
            return version
        with suppress(OSError):
            return replace(version, tag=tag_of(self._local(self.key(filename))))
        return version

    def versions_now(self, before: Mapping[str, FileVersion]) -> dict[str, FileVersion]:
        """The files of earlier versions as they are now, with the tags of those whose times tell nothing."""
        return {
            name: now if before[name].may_be(now) else self.with_tag(name, now)
            for name, now in self.versions(before).items()
        }

    def _listed(self, cache: VideoCache) -> dict[str, Entry]:
        return cache.entries(f"{self._folder}/" if self._folder else "")

    def _local(self, key: str) -> Path:
        assert isinstance(self._source, LocalStore)
        return _spelled_otherwise(self._source.root / key)

    def _missing(self, key: str) -> DataError:
        address = self._source.address(key)
        if self._training_copy:
            return DataError(f"there is no training copy {address}: {NO_COPY_HINT}")
        return VideoError(f"there is no video {address}")


def clean(cache: VideoCache, prefix: str = "") -> VideoCache:
    """The cache, without partial downloads of killed processes and without files that the store has replaced since.

    Args: prefix, of the keys that will be read. Raises: StoreError.
    """
    cache.sweep()
    cache.drop_changed(prefix)
    return cache


def _spelled_otherwise(path: Path) -> Path:
    """The file under the other Unicode form of its name, if it exists: systems differ in which one they store."""
    names = (path.with_name(unicodedata.normalize(form, path.name)) for form in ("NFC", "NFD"))
    return next((name for name in names if name.exists()), path)


class DatasetFiles:
    """The data set's root, on this machine or in S3."""

    def __init__(self, config: DataConfig, store: StoreConfig | None = None) -> None:
        """Args: store, how to reach the S3 server; its URI is not used."""
        self._config = config
        self._settings = with_uri(store, config.root.rstrip("/"))
        self._is_remote = config.root.startswith("s3://")
        self._cache_dir = Path(config.cache_dir) if config.cache_dir else cache_folder("videos")

    def table(self, relative: str) -> Path:
        """A table, label map or features file, downloaded if it is in S3.

        Raises: ConfigError if the root is not a folder; StoreError.
        """
        if self._is_remote:
            uri = f"{self._settings.uri}/{relative}"
            return fetch_object(uri, self._cache_dir / "tables", settings=self._settings)
        return self._root() / relative

    def videos(self, folder: str) -> Videos:
        """The videos of one subset."""
        if not self._is_remote:
            return Videos(LocalStore(self._root() / folder), training_copy=self._config.training_copy)
        cache = VideoCache(self._cache_dir, self._settings, limit_bytes=self._config.cache_mib * MIB)
        return Videos(clean(cache, f"{folder}/"), folder, training_copy=self._config.training_copy)

    def _root(self) -> Path:
        root = self._config.root
        path = path_of_file_uri(root) if root.startswith("file://") else Path(root).expanduser()
        if not path.is_dir():
            raise ConfigError(f"the data set's folder {path} does not exist: check --data")
        return path
