"""Writing the H5 file of global video features; ``features`` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tsp.data.video.encode import new_file


def write_gvf(path: Path, vectors: Mapping[str, NDArray[np.float32]]) -> None:
    """One gzip data set per video name (file name without extension), as TSP publishes them; whole or not at all."""
    with new_file(path) as partial, h5py.File(partial, "w") as out:
        for name, vector in sorted(vectors.items()):
            out.create_dataset(name, data=vector.astype(np.float32), compression="gzip")
