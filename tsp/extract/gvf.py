"""``gvf``: one global video feature per video, pooled while its clips are encoded; no features are stored."""

from __future__ import annotations

from functools import partial

import numpy as np

from tsp.config.job import Answer
from tsp.config.jobs import GvfJob, Pool
from tsp.data.features import GVF_DIMS
from tsp.extract.extraction import Extraction, Keep


class PooledFeatures:
    """Maximum or average over a video's clips, float32 [512]."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._num_clips = 0
        self._max = np.full(GVF_DIMS, -np.inf, np.float32)
        # An hour at stride 1 is 54,000 clips: summed in float64.
        self._sum = np.zeros(GVF_DIMS, np.float64)

    def add(self, features_NF: np.ndarray) -> None:
        """The features of its next clips."""
        self._num_clips += len(features_NF)
        np.maximum(self._max, features_NF.max(axis=0), out=self._max)
        self._sum += features_NF.sum(axis=0, dtype=np.float64)

    def result(self) -> np.ndarray:
        """float32 [512]"""
        return self._max if self._pool == "max" else (self._sum / self._num_clips).astype(np.float32)


def run(job: GvfJob) -> Answer:
    """Run a GVF job.

    Returns, raises: as ``features.run``.
    """
    keep = Keep(f"{job.pool} over time", partial(PooledFeatures, job.pool), lambda _: (GVF_DIMS,))
    return Extraction(job, keep).run()
