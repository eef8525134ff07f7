"""What is in a .npy file's bytes, for several threads at once.

numpy parses a header with ``ast.literal_eval``, and Python 3.11, for one, counts how deeply it is nested for all
threads together: now and then, one that parses while another does ends with "SystemError: AST constructor recursion
depth mismatch" (https://github.com/python/cpython/issues/106905). So here one parses at a time.
"""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np

_PARSING = threading.Lock()


def header_of(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, type, and where the values begin.

    Args: start, the file's first bytes, its header among them.
    Raises: ValueError if they are not the start of a .npy file.
    """
    file = io.BytesIO(start)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with _PARSING:
        shape, is_fortran, dtype = read(file)
    return shape, is_fortran, dtype, file.tell()


def array_of(content: bytes) -> np.ndarray:
    """The array of a whole file.

    Raises: ValueError or EOFError if it is damaged, an archive (.npz), or holds Python objects.
    """
    with _PARSING:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive (.npz)")
    return array
