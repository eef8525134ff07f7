"""``extract``: the features of every clip of every video, merged into one H5."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsp.config.jobs import ExtractJob, job_from_dict
from tsp.data.features import GVF_DIMS
from tsp.extract.extraction import Extraction, Keep


class StackedFeatures:
    """All features of a video, float32 [N, 512]."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []

    def add(self, features_NF: np.ndarray) -> None:
        """The features of its next clips."""
        # A copy: the block is a view into a batch that other videos share.
        self._blocks.append(features_NF.copy())

    def result(self) -> np.ndarray:
        """float32 [N, 512]"""
        return np.concatenate(self._blocks)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do an extraction given as plain data.

    Returns: counts, and a row for every video that is broken, padded or left out; exit_code 3 if broken ones are not
        to be left out.
    Raises: ConfigError, DataError, StoreError, GpuMemoryError.
    """
    parsed = job_from_dict("extract", job)
    assert isinstance(parsed, ExtractJob)
    return Extraction(parsed, Keep("features", StackedFeatures, lambda num_clips: (num_clips, GVF_DIMS))).run()
