"""Features of one video, and how files that hold them are made."""

from collections.abc import Callable
from typing import Any

import numpy as np

VALUES = np.random.default_rng(7).normal(size=(37, 16)).astype(np.float32)
Make = Callable[[Any], object]


def with_change(change: Callable[[np.ndarray], None], dtype: str = "<f4") -> np.ndarray:
    array = VALUES.astype(dtype)
    change(array)
    return array
