"""Which clips an epoch holds, in which order, and every random number of a clip: functions of (seed, epoch, item)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsp.data.clips import clip_start_sec, uniform_shares
from tsp.data.transforms import Crop, central_crop
from tsp.run.config import ClipConfig

MAX_DRAWS = 8
"""Starts drawn for a clip, one after the other, before it is given up."""
_MASK = (1 << 64) - 1
# Streams of random numbers that must not meet: the item's number or this in the generator's key.
_ORDER = _MASK


@dataclass(frozen=True, slots=True)
class Draw:
    """All that chance decides about one clip."""

    shares: tuple[float, ...]
    """Where in its segment the clip starts; the ones after the first are for when that cannot be decoded."""
    crop: Crop


def random_numbers(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    Philox makes its numbers from a key, so that neighbouring items are independent and none needs the one before.
    """
    return np.random.Generator(
        np.random.Philox(key=np.array([seed & _MASK, stream & _MASK], np.uint64), counter=[0, 0, 0, epoch & _MASK])
    )


def draw_training(clips: ClipConfig, *, seed: int, epoch: int, item: int) -> Draw:
    """Start, flip and crop of a training clip."""
    flip, row, column, *shares = random_numbers(seed, epoch, item).random(3 + MAX_DRAWS).tolist()
    crop = Crop(
        row=int(row * (clips.resize_height_px - clips.crop_px + 1)),
        column=int(column * (clips.resize_width_px - clips.crop_px + 1)),
        flip=flip < clips.flip_probability,
    )
    return Draw(tuple(shares), crop)


def draw_validation(clips: ClipConfig, *, seed: int, item: int, clip_number: int) -> Draw:
    """Evenly spaced start and central crop, the same in every epoch; chance only replaces a bad clip."""
    spare = random_numbers(seed, 0, item).random(MAX_DRAWS - 1).tolist()
    share = float(uniform_shares(clips.per_segment)[clip_number])
    return Draw((share, *spare), central_crop(clips.resize_height_px, clips.resize_width_px, clips.crop_px))


def start_of(draw: Draw, attempt: int, start_sec: float, end_sec: float, clips: ClipConfig) -> float:
    """Seconds at which the attempt-th try at the clip starts."""
    return clip_start_sec(start_sec, end_sec, draw.shares[attempt], clips.duration_sec)


def training_batches(
    num_items: int, batch: int, *, seed: int, epoch: int, rank: int, world_size: int
) -> list[np.ndarray]:
    """This rank's items, int64, batch by batch.

    All items in an order made from (seed, epoch), padded by starting over so that they can be dealt evenly, then every
    world_size-th of them, as torch's DistributedSampler deals.
    """
    order = random_numbers(seed, epoch, _ORDER).permutation(num_items)
    padded = np.resize(order, -(-num_items // world_size) * world_size)
    mine = padded[rank::world_size]
    return [mine[at : at + batch] for at in range(0, len(mine), batch)]


def validation_batches(num_items: int, batch: int, *, rank: int, world_size: int) -> list[np.ndarray]:
    """This rank's items, int64, batch by batch: batches are cut from the one order of all items, then dealt in turn.

    Every item occurs once, and what a batch holds does not depend on the world size.
    """
    cuts = range(rank * batch, num_items, world_size * batch)
    return [np.arange(at, min(at + batch, num_items)) for at in cuts]
