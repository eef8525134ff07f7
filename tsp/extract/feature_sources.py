"""Reads features, one video in memory at a time, from an H5 file or a folder of ``.npy`` files."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tsp.config.store import StoreConfig
from tsp.data.features import FeatureFile
from tsp.errors import DataError, MissingKeyError
from tsp.extract.npy import array_of, header_of
from tsp.extract.raw_floats import RawFloats
from tsp.run.feature_set import (
    DESCRIPTION,
    H5_ENDINGS,
    MISSING_FILES,
    FeatureSet,
    described_by,
    parse_description,
)
from tsp.store.base import Store
from tsp.store.files import folder_and_name, list_files, local_path, open_folder
from tsp.wording import counted, first_few

logger = logging.getLogger(__name__)

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

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """One array in pieces of whole rows, float32, each to be used before the next."""

    def raw(self, name: str) -> RawFloats | None:
        """The position of its values on this machine if stored as in memory; None if they must be read."""


class H5Features:
    """An open H5 file at a local path."""

    def __init__(self, path: Path, file: FeatureFile) -> None:
        self._path, self._file = path, file
        self.names = file.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one array."""
        return self._file.shape(name)

    def read(self, name: str) -> np.ndarray:
        """One array, float32."""
        return self._file.read(name)

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """Deflated chunks that hold the same rows, or all rows."""
        return self._file.blocks(name)

    def raw(self, name: str) -> RawFloats | None:
        """Unless it is compressed, in pieces or of another type."""
        offset = self._file.raw_offset(name)
        return None if offset is None else RawFloats(self._path, offset, self.shape(name))


class NpyFolder:
    """A folder of ``<name>.npy``, local or in S3."""

    def __init__(self, folder: Store) -> None:
        self._folder = folder
        listed = list_files(folder)
        found = [name for name in listed if name.endswith(NPY)]
        if folder.is_local:
            _refuse_links_that_are_not_listed(Path(folder.uri or "/"))
        if inner := next((name for name in found if "/" in name), None):
            raise DataError(
                f"{folder.address(inner)} is in a subfolder: give a folder that contains the .npy files directly"
            )
        self.names = sorted(name.removesuffix(NPY) for name in found)
        others = [name for name in listed if not name.endswith(NPY) and name not in (DESCRIPTION, MISSING_FILES)]
        if others:
            logger.warning(
                "%s: %s left out (not %s): %s",
                folder.uri,
                counted(len(others), "file"),
                NPY,
                first_few(sorted(others)),
            )

    def shape(self, name: str) -> tuple[int, ...]:
        """Read from the file's header.

        Raises: DataError if it is not a .npy file, or does not contain numbers.
        """
        shape, _, dtype, _ = self._header(name)
        self._refuse_no_numbers(name, dtype)
        return shape

    def raw(self, name: str) -> RawFloats | None:
        """Unless it is elsewhere, of another type or stored columns first.

        Raises: DataError as ``shape``.
        """
        path = self._folder.local_path(name + NPY)
        if path is None:
            return None
        shape, is_fortran, dtype, offset_bytes = self._header(name)
        if path.stat().st_size < offset_bytes + dtype.itemsize * math.prod(shape):
            raise DataError(f"{path} is truncated: its header states {list(shape)} values of {dtype}")
        return RawFloats(path, offset_bytes, shape) if dtype == np.dtype("<f4") and not is_fortran else None

    def _header(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        """Shape, whether columns come first, type, and where the values begin."""
        try:
            return header_of(self._folder.read(name + NPY, size_bytes=HEADER_BYTES))
        except ValueError as error:
            raise DataError(f"{self._folder.address(name + NPY)} is not a .npy file: {error}") from error

    def read(self, name: str) -> np.ndarray:
        """Its values, float32.

        Raises: DataError if the file is damaged or holds Python objects.
        """
        try:
            array = array_of(self._folder.read(name + NPY))
        except (ValueError, EOFError, OSError, MemoryError) as error:
            raise DataError(f"{self._folder.address(name + NPY)} cannot be read: {error}") from error
        self._refuse_no_numbers(name, array.dtype)
        # What overflows becomes infinite, which is refused by name.
        with np.errstate(over="ignore"):
            return array.astype(np.float32, copy=False)

    def _refuse_no_numbers(self, name: str, dtype: np.dtype[Any]) -> None:
        if dtype.kind == "O":
            raise DataError(
                f"{self._folder.address(name + NPY)} contains Python objects (a pickle), which are not loaded because "
                "they may run code: save each video's features as a plain array"
            )
        if dtype.kind not in "fiub":
            raise DataError(f"{self._folder.address(name + NPY)} contains {dtype}, not real numbers")

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """All rows at once."""
        yield self.read(name)


def _refuse_links_that_are_not_listed(folder: Path) -> None:
    """Raises: DataError for a broken link to features, or a link to a folder of them."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or not entry.is_symlink():
            continue
        if entry.name.endswith(NPY) and not os.path.exists(entry.path):
            raise DataError(f"{entry.path} is a broken link (to {os.readlink(entry.path)}): restore or remove it")
        if entry.is_dir() and any(name.endswith(NPY) for name in os.listdir(entry.path)):
            raise DataError(f"{entry.path} is a folder of .npy files: give a folder that contains them directly")


@contextmanager
def open_features(address: str, settings: StoreConfig | None) -> Iterator[Features]:
    """The features at a path or URI.

    Raises: DataError if there are none.
    """
    if address.endswith(H5_ENDINGS):
        folder, name = folder_and_name(address)
        around = open_folder(folder, settings)
        with around.reading(name) as path, FeatureFile(path, where=address) as file:
            yield _some(H5Features(path, file), address)
    else:
        if "://" not in address and local_path(address).is_file():
            raise DataError(
                f"{address} is a file: give a folder of .npy files, or an H5 file whose name ends in .h5 or .hdf5"
            )
        yield _some(NpyFolder(open_folder(address, settings)), address)


def _some(features: Features, address: str) -> Features:
    if not features.names:
        raise DataError(f"{address} contains no features: give an H5 file (.h5, .hdf5) or a folder of .npy files")
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
