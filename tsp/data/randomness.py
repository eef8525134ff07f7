"""All random numbers of a clip, as functions of (seed, epoch, item), never of worker, rank or history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsp.config.run import ClipConfig
from tsp.data.clips import clip_start_sec, uniform_shares
from tsp.data.pixel_plan import Crop, central_crop

MAX_DRAWS = 8
"""Starts that are tried for a clip, one after the other."""
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Draw:
    """The random choices of one clip."""

    shares: tuple[float, ...]
    """Where in its segment the clip starts; those after the first are used if it cannot be decoded."""
    crop: Crop


def random_numbers(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    Philox derives its numbers from a key, so neighbouring items are independent and none depends on its predecessor.
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
    """Evenly spaced start and central crop, the same in every epoch; only replacements of bad clips are random."""
    spare = random_numbers(seed, 0, item).random(MAX_DRAWS - 1).tolist()
    share = uniform_shares(clips.per_segment)[clip_number]
    return Draw((share, *spare), central_crop(clips.resize_height_px, clips.resize_width_px, clips.crop_px))


def start_of(draw: Draw, attempt: int, start_sec: float, end_sec: float, clips: ClipConfig) -> float:
    """Seconds at which the attempt-th try at the clip starts."""
    return clip_start_sec(start_sec, end_sec, draw.shares[attempt], clips.duration_sec)
