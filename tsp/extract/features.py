"""``extract``: the features of every clip of every video, in one H5 or one file per video."""

from __future__ import annotations

import numpy as np

from tsp.config.job import Answer
from tsp.config.jobs import ExtractJob
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


def run(job: ExtractJob) -> Answer:
    """Run an extraction.

    Returns: counts, and a row for every video that is broken, padded or left out; exit code 3 if broken ones
        are not allowed.
    Raises: ConfigError, DataError, StoreError, GpuMemoryError, GpuLostError.
    """
    keep = Keep("features", StackedFeatures, lambda num_clips: (num_clips, GVF_DIMS), job.format, job.prefix)
    return Extraction(job, keep).run()
