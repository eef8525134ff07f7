"""The exact resize, crop and normalisation, on the device, of the pixels that workers gathered.

The gathered pixels are blended with the weights of ``tsp.data.pixel_plan`` in float32, which gives the same numbers as
resizing the whole frame in float32.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from tsp.data.batch import ClipBatch

MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)
PIXELS_IN_CACHE = 25_000
"""Of so many at a time all that a CPU computes stays in a core's cache."""


def pixels_on_device(batch: ClipBatch, device: torch.device | str) -> Tensor:
    """The encoder's input of a batch: float32 [B, 3, T, C, C], normalised, in channels-last-3d memory order.

    The uint8 pixels are copied to the device first (nothing is copied for a batch that is there already).
    """
    batch = batch.to(device)
    if batch.row_weights is None or batch.column_weights is None:
        return normalise(batch.pixels[..., :3].float())
    return blend(batch.pixels, batch.row_weights, batch.column_weights)


def blend(pixels: Tensor, row_weights: Tensor, column_weights: Tensor) -> Tensor:
    """Resized, cropped and normalised clips from gathered pixels.

    Args: pixels, uint8 [B, T, 2C, 2C, 4] (the fourth byte means nothing); row_weights and column_weights, float32
            [B, C]; all on one device.
    Returns: float32 [B, 3, T, C, C], in channels-last-3d memory order.
    """
    if pixels.device.type == "cpu":
        return _blend_on_cpu(pixels, row_weights, column_weights)
    batch, frames, side = pixels.shape[0], pixels.shape[1], pixels.shape[2] // 2
    taps = pixels.view(batch, frames, side, 2, side, 2, 4)[..., :3]
    across = column_weights.view(batch, 1, 1, side, 1)
    down = row_weights.view(batch, 1, side, 1, 1)
    upper = torch.lerp(taps[:, :, :, 0, :, 0].float(), taps[:, :, :, 0, :, 1].float(), across)
    lower = torch.lerp(taps[:, :, :, 1, :, 0].float(), taps[:, :, :, 1, :, 1].float(), across)
    return normalise(torch.lerp(upper, lower, down))


def _blend_on_cpu(pixels: Tensor, row_weights: Tensor, column_weights: Tensor) -> Tensor:
    """``blend``, to the same bits in a third of the time: a few frames at a time, and in loops as long as a row.

    Over three of four bytes each loop would be three long. Here a pixel is one number while the taps are parted, and
    the fourth byte is blended along.
    """
    batch, frames, side = pixels.shape[0], pixels.shape[1], pixels.shape[2] // 2
    image = torch.empty(batch, frames, side, side, 3)
    scale, shift = constants(pixels.device)
    step = max(1, PIXELS_IN_CACHE // side**2)
    for clip in range(batch):
        across, down = column_weights[clip].repeat_interleave(4), row_weights[clip].view(side, 1)
        for part in range(0, frames, step):
            taps = pixels[clip, part : part + step].view(torch.int32).view(-1, side, 2, side, 2)
            upper = torch.lerp(_channels(taps[:, :, 0, :, 0]), _channels(taps[:, :, 0, :, 1]), across)
            lower = torch.lerp(_channels(taps[:, :, 1, :, 0]), _channels(taps[:, :, 1, :, 1]), across)
            blended = torch.lerp(upper, lower, down)
            image[clip, part : part + step] = torch.addcmul(shift, blended.view(-1, side, side, 4)[..., :3], scale)
    return image.permute(0, 4, 1, 2, 3)


def _channels(pixels: Tensor) -> Tensor:
    """Of int32 [T, H, W], the four bytes of each as float32 [T, H, 4W]."""
    return pixels.contiguous().view(torch.uint8).float()


@lru_cache(maxsize=16)
def constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift of normalisation, float32 [3], cached per device: a copy from the host would wait each time."""
    with torch.inference_mode(False):
        scale = torch.tensor([1 / (255 * std) for std in STD], device=device)
        shift = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], device=device)
    return scale, shift


def normalise(image: Tensor) -> Tensor:
    """float [B, T, H, W, 3] in levels 0-255 to normalised [B, 3, T, H, W]."""
    scale, shift = constants(image.device)
    return torch.addcmul(shift, image, scale).permute(0, 4, 1, 2, 3)
