"""H5 files keyed by video name: features and global video features (GVF); the only importer of h5py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from tsp.errors import DataError

GVF_DIMS = 512
"""Size of the encoder's feature, and so of its pooling over a video."""


class GvfFile:
    """An H5 file that maps a video's name to its global feature."""

    def __init__(self, path: str | Path, *, dims: int = GVF_DIMS) -> None:
        self.path = str(path)
        self._dims = dims

    def load(self, videos: Sequence[str]) -> np.ndarray:
        """Features of the videos, float32 [V, dims], in their order; the file is closed afterwards.

        Raises: DataError naming the first video that is missing and how many are, or one whose feature has another
            shape or is not finite.
        """
        try:
            with h5py.File(self.path, "r") as file:
                self._refuse_missing(videos, set(file))
                features = np.empty((len(videos), self._dims), np.float32)
                for index, video in enumerate(videos):
                    features[index] = self._vector(file[video], video)
        except OSError as error:
            raise DataError(f"cannot read the GVF file {self.path}: {error}") from error
        return features

    def _vector(self, entry: h5py.Dataset | h5py.Group, video: str) -> np.ndarray:
        if not isinstance(entry, h5py.Dataset) or entry.size != self._dims:
            shape = entry.shape if isinstance(entry, h5py.Dataset) else "a group"
            raise DataError(
                f"{self.path}: the feature of {video!r} has shape {shape}, expected ({self._dims},): one vector per "
                f"video, pooled over time ('tspctl gvf' makes such files)"
            )
        vector = np.asarray(entry, np.float32).reshape(self._dims)
        if not np.isfinite(vector).all():
            raise DataError(f"{self.path}: the feature of {video!r} holds NaN or infinite values")
        return vector

    def _refuse_missing(self, videos: Sequence[str], present: set[str]) -> None:
        missing = [video for video in videos if video not in present]
        if missing:
            raise DataError(
                f"the GVF file {self.path} has no feature for the video {missing[0]!r} ({len(missing)} of "
                f"{len(videos)} videos are missing): build it with 'tspctl gvf', or train with --gvf none"
            )


class FeatureFile:
    """An H5 file that maps a video's name to its features [T, dimension]; a context manager."""

    def __init__(self, path: str | Path, *, where: str) -> None:
        """Open it.

        Args: where, how messages call it.
        Raises: DataError if it cannot be read as H5.
        """
        self._where = where
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise DataError(f"{where} cannot be read as H5: {error}") from error

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Of the videos, sorted."""
        return sorted(self._file)

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the values.

        Raises: DataError if the entry is a group, or a link that leads nowhere.
        """
        return tuple(self._entry(name).shape)

    def read(self, name: str) -> np.ndarray:
        """The values, float32.

        Raises: DataError.
        """
        entry = self._entry(name)
        try:
            return np.asarray(entry, np.float32)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self._where}: the features of {name!r} cannot be read: {error}") from error

    def _entry(self, name: str) -> h5py.Dataset:
        try:
            entry = self._file[name]
        except (KeyError, OSError) as error:
            raise DataError(f"{self._where}: {name!r} is a link that leads nowhere") from error
        if not isinstance(entry, h5py.Dataset):
            raise DataError(f"{self._where}: {name!r} is a group, not the features of a video")
        return entry


def write_arrays(path: str | Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """One float32 data set per video name, gzip, as TSP publishes them. The arrays are taken one after the other.

    The file is written in place: give a name that nobody reads yet.
    """
    with h5py.File(path, "w") as file:
        for video, array in arrays:
            file.create_dataset(video, data=array.astype(np.float32, copy=False), compression="gzip")
