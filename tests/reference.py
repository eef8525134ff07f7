"""The plainest reader there is, written from the method's description: the oracle for the fast one.

It decodes a file from its start, keeps every frame, and resizes full pixels in float32.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

MEAN = torch.tensor([0.43216, 0.394666, 0.37645])
STD = torch.tensor([0.22803, 0.22145, 0.216989])


def decode_all(path: Path) -> tuple[list[float], np.ndarray]:
    """When each frame is shown, in seconds from the container's start, and uint8 [N, H, W, 3] in the decoder's order.

    A test holds it against the ffmpeg program. AVI stores no such times: there the first frame is shown at 0.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        pts = sorted(frame.pts for frame in frames)
        is_avi = container.format.name == "avi"
        start = pts[0] if is_avi else round(Fraction(container.start_time, 1_000_000) / stream.time_base)
        units = stream.time_base
        times = [(time - start) * units.numerator / units.denominator for time in pts]
        return times, np.stack([frame.to_rgb().to_ndarray() for frame in frames])


def clip_indices(
    times_sec: list[float], start_sec: float, fps: Fraction, length: int = 16, rate: int = 15
) -> list[int]:
    """Which frames a clip consists of; a picture that begins late counts as its first frame again and again before."""
    late = -round((times_sec[0] - start_sec) * fps)
    first = max([index for index, time in enumerate(times_sec) if time <= start_sec], default=late)
    return [max(0, first + int(k * fps / rate)) for k in range(length)]


def read_clip(path: Path, start_sec: float, fps: Fraction) -> np.ndarray:
    """uint8 [16, H, W, 3]."""
    times, frames = decode_all(path)
    return frames[clip_indices(times, start_sec, fps)]


def resized(frames_THWC: np.ndarray, height: int = 128, width: int = 171) -> Tensor:
    """float32 [3, T, height, width] in [0, 1]."""
    video = torch.from_numpy(frames_THWC).permute(3, 0, 1, 2).to(torch.float32) / 255
    return functional.interpolate(video, size=(height, width), mode="bilinear", align_corners=False)


def transformed(
    frames_THWC: np.ndarray,
    row: int = 8,
    column: int = 30,
    *,
    flip: bool = False,
    crop: int = 112,
    size: tuple[int, int] = (128, 171),
) -> Tensor:
    """float32 [3, T, crop, crop], normalised; the defaults are the validation crop."""
    video = resized(frames_THWC, *size)
    if flip:
        video = video.flip(dims=(-1,))
    video = (video - MEAN.view(3, 1, 1, 1)) / STD.view(3, 1, 1, 1)
    return video[..., row : row + crop, column : column + crop]
