"""Reads features, one video in memory at a time, from an H5 file or a folder of ``.npy`` files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from tsp.config.run import StoreConfig
from tsp.data.features import FeatureFile
from tsp.errors import DataError, MissingKeyError
from tsp.run.feature_set import H5_ENDINGS, FeatureSet, described_by, parse_description
from tsp.store.base import Store
from tsp.store.files import list_files, open_folder

NPY = ".npy"
HEADER_BYTES = 1024


class Features(Protocol):
    """The arrays of a set, by the names they are stored under."""

    @property
    def names(self) -> list[str]:
        """Sorted."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one array, without its values."""

    def read(self, name: str) -> np.ndarray:
        """One array, float32."""


class NpyFolder:
    """A folder of ``<name>.npy``, local or in S3."""

    def __init__(self, folder: Store) -> None:
        self._folder = folder
        found = [name for name in list_files(folder) if name.endswith(NPY)]
        self.names = sorted(name.removesuffix(NPY) for name in found)

    def shape(self, name: str) -> tuple[int, ...]:
        """Read from the file's header.

        Raises: DataError if it is not a .npy file.
        """
        head = io.BytesIO(self._folder.read_head(name + NPY, HEADER_BYTES))
        try:
            version = np.lib.format.read_magic(head)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape: tuple[int, ...] = read(head)[0]
        except ValueError as error:
            raise DataError(f"{self._folder.address(name + NPY)} is not a .npy file: {error}") from error
        return shape

    def read(self, name: str) -> np.ndarray:
        """Its values, float32.

        Raises: DataError if the file is damaged or holds Python objects.
        """
        path = self._folder.local_path(name + NPY)
        try:
            source = io.BytesIO(self._folder.read(name + NPY)) if path is None else path
            array: np.ndarray = np.load(source, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{self._folder.address(name + NPY)} cannot be read: {error}") from error
        return array.astype(np.float32, copy=False)


@contextmanager
def open_features(address: str, settings: StoreConfig | None) -> Iterator[Features]:
    """The features at a path or URI.

    Raises: DataError if there are none.
    """
    if address.endswith(H5_ENDINGS):
        folder, slash, name = address.rpartition("/")
        around = open_folder(folder or slash or ".", settings)
        with around.reading(name) as path, FeatureFile(path, where=address) as file:
            yield _some(file, address)
    else:
        yield _some(NpyFolder(open_folder(address, settings)), address)


def _some(features: Features, address: str) -> Features:
    if not features.names:
        raise DataError(f"{address} holds no features: give an H5 file (.h5, .hdf5) or a folder of .npy files")
    return features


def read_description(address: str, settings: StoreConfig | None) -> FeatureSet | None:
    """The set's description; None if there is none, as for features published elsewhere.

    Raises: DataError if the file does not describe features.
    """
    folder, key = described_by(address)
    store = open_folder(folder, settings)
    try:
        data = store.read(key)
    except MissingKeyError:
        return None
    return parse_description(data, where=store.address(key))
