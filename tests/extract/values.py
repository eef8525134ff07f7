"""Features of one video, and how files that hold them are made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

VALUES = np.random.default_rng(7).normal(size=(37, 16)).astype(np.float32)
Make = Callable[[Any], object]


def with_change(change: Callable[[np.ndarray], None], dtype: str = "<f4") -> np.ndarray:
    array = VALUES.astype(dtype)
    change(array)
    return array


def read_h5(path: str | Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: np.asarray(file[name]) for name in file}


def read_npy(folder: str | Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path) for path in sorted(Path(folder).glob("*.npy"))}


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, theirs[name])
