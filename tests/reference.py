"""The plainest reader there is, written from the method's description: the oracle for the fast one.

It decodes a file from its start, keeps every frame, and resizes full pixels in float32.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

MEAN = torch.tensor([0.43216, 0.394666, 0.37645])
STD = torch.tensor([0.22803, 0.22145, 0.216989])


def decode_all(path: Path) -> tuple[list[float], np.ndarray]:
    """Presentation times in seconds, rising, and uint8 [N, H, W, 3]."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = {frame.pts: frame.to_rgb().to_ndarray() for frame in container.decode(stream)}
        times = [pts * stream.time_base.numerator / stream.time_base.denominator for pts in sorted(frames)]
        return times, np.stack([frames[pts] for pts in sorted(frames)])


def clip_indices(
    times_sec: list[float], start_sec: float, fps: Fraction, length: int = 16, rate: int = 15
) -> list[int]:
    """Which frames a clip consists of."""
    first = max([index for index, time in enumerate(times_sec) if time <= start_sec], default=0)
    return [first + int(k * fps / rate) for k in range(length)]


def read_clip(path: Path, start_sec: float, fps: Fraction) -> np.ndarray:
    """uint8 [16, H, W, 3]."""
    times, frames = decode_all(path)
    return frames[clip_indices(times, start_sec, fps)]


def resized(frames_THWC: np.ndarray, height: int = 128, width: int = 171) -> Tensor:
    """float32 [3, T, height, width] in [0, 1]."""
    video = torch.from_numpy(frames_THWC).permute(3, 0, 1, 2).to(torch.float32) / 255
    return F.interpolate(video, size=(height, width), mode="bilinear", align_corners=False)


def transformed(
    frames_THWC: np.ndarray, row: int = 8, column: int = 30, *, flip: bool = False, crop: int = 112
) -> Tensor:
    """float32 [3, T, crop, crop], normalised; the defaults are the validation crop."""
    video = resized(frames_THWC)
    if flip:
        video = video.flip(dims=(-1,))
    video = (video - MEAN.view(3, 1, 1, 1)) / STD.view(3, 1, 1, 1)
    return video[..., row : row + crop, column : column + crop]
