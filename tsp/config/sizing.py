"""Batch and learning rates from the GPU's memory: the downscale rule, as pure arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tsp.config.run import DOWNSCALES, RunConfig
from tsp.errors import ConfigError, GpuMemoryError

DOWNSCALE_MIN_MIB = ((29000, 1), (14000, 2), (7000, 4))
"""Least MiB of GPU memory for each downscale factor; a 32 GB card shows 32510, a 16 GB one 15109, an 8 GB one 7680."""

_UNITS_IN_MIB = {"": 1.0, "ki": 1 / 1024, "mi": 1.0, "gi": 1024.0, "ti": 1024.0**2,
                 "k": 1e3 / 2**20, "m": 1e6 / 2**20, "g": 1e9 / 2**20, "t": 1e12 / 2**20}  # fmt: skip
_BYTES_FROM = 1 << 28
"""A bare number this large cannot be MiB (it would be 256 TiB): some versions of the labeller wrote bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectiveSizes:
    """The sizes and rates that a run trains with."""

    downscale: int
    world_size: int
    batch_per_gpu: int
    global_batch: int
    backbone_lr: float
    head_lr: float
    stem_lr: float

    def __str__(self) -> str:
        return (
            f"batch {self.batch_per_gpu} x {self.world_size} = {self.global_batch} clips, "
            f"learning rates {self.backbone_lr:g} (backbone) and {self.head_lr:g} (heads)"
        )


def gpu_memory_mib(label: str) -> int:
    """MiB of GPU memory from a node label or a card's own figure, normalised.

    Args: label, "16384" (MiB), "42505273344" (bytes), "80Gi", "16384MiB", "16GB".
    Raises: ConfigError if it is no size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*((?:[kKmMgGtT]i?)?)[bB]?\s*", label)
    if not match:
        raise ConfigError(
            f"GPU memory {label!r} is not a size: expected MiB, bytes, or a number with the unit Gi or Mi"
        )
    number, unit = float(match[1]), match[2].lower()
    if unit == "" and number >= _BYTES_FROM:
        return int(number / 2**20)
    return int(number * _UNITS_IN_MIB[unit])


def downscale_for(memory_mib: int) -> int:
    """Downscale factor 1, 2 or 4 for a GPU of that many MiB.

    Raises: GpuMemoryError below 7000 MiB.
    """
    for least_mib, factor in DOWNSCALE_MIN_MIB:
        if memory_mib >= least_mib:
            return factor
    raise GpuMemoryError(
        f"a GPU with {memory_mib} MiB is too small: at least {DOWNSCALE_MIN_MIB[-1][0]} MiB are needed "
        f"(downscale factor {DOWNSCALE_MIN_MIB[-1][1]}); choose other nodes or set --downscale yourself"
    )


def effective_sizes(config: RunConfig, *, downscale: int, world_size: int | None = None) -> EffectiveSizes:
    """Batch per GPU / d, learning rates x world size / d.

    Args: downscale, 1, 2 or 4; world_size, ranks (default ``config.gpus``).
    Raises: ConfigError for another factor, or one larger than the batch.
    Source: TSP, recipes.
    """
    if downscale not in DOWNSCALES:
        raise ConfigError(f"downscale must be one of {DOWNSCALES}, got {downscale}")
    if config.batch_per_gpu < downscale:
        raise ConfigError(f"batch_per_gpu {config.batch_per_gpu} cannot be divided by downscale {downscale}")
    ranks = config.gpus if world_size is None else world_size
    batch = config.batch_per_gpu // downscale
    scale = ranks / downscale
    return EffectiveSizes(
        downscale=downscale,
        world_size=ranks,
        batch_per_gpu=batch,
        global_batch=batch * ranks,
        backbone_lr=config.optim.backbone_lr * scale,
        head_lr=config.optim.head_lr * scale,
        stem_lr=config.optim.stem_lr * scale,
    )
