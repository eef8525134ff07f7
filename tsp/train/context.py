"""The settings on which the ranks have agreed before training begins."""

from __future__ import annotations

from dataclasses import dataclass

from tsp.config.run import RunConfig
from tsp.config.sizing import EffectiveSizes
from tsp.run.stored_run import StoredRun
from tsp.train.distributed import Group
from tsp.train.precision import Numerics
from tsp.train.stop_signal import Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingContext:
    """The settings of a rank's training: configuration, store, sizes, number format, peers."""

    config: RunConfig
    run: StoredRun
    sizes: EffectiveSizes
    numerics: Numerics
    group: Group
    stop: Stop
    attempt: int
