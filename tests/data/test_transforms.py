"""Gathered pixels, blended on the device, against the plain float pipeline on full frames."""

import numpy as np
import pytest
import torch

from tests.reference import transformed
from tsp.data.pixel_plan import Crop, central_crop, gather, plan_pixels, plan_resized
from tsp.data.transforms import blend

SIZES = [(180, 320), (720, 1280), (256, 340), (97, 131), (128, 171), (64, 85), (113, 401), (128, 600), (7, 5)]
CROPS = [Crop(8, 30), Crop(0, 0), Crop(16, 59), Crop(3, 17, flip=True), Crop(16, 59, flip=True), Crop(0, 0, flip=True)]
SHAPE = {"resize_height_px": 128, "resize_width_px": 171, "crop_px": 112}


def frames_of(height, width, count=2):
    return np.random.default_rng(height * width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def as_pixels(image, padding=5):
    rgba = np.full((image.shape[0], image.shape[1] + padding, 4), 99, np.uint8)
    rgba[:, : image.shape[1], :3] = image
    return rgba.view(np.uint32)[..., 0]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", SIZES)
def test_blended_pixels_equal_the_float_pipeline(size, crop):
    frames = frames_of(*size)
    plan = plan_pixels(*size, **SHAPE, crop=crop)
    out = np.empty((1, len(frames), 224, 224), np.uint32)
    for k, image in enumerate(frames):
        pixels = as_pixels(image)
        gather(pixels, plan.source_index(pixels.shape[1]), out[0, k])
    weights = (torch.from_numpy(weight)[None] for weight in (plan.row_weights, plan.column_weights))
    clips = blend(torch.from_numpy(out.view(np.uint8).reshape(*out.shape, 4)), *weights)
    expected = transformed(frames, crop.row, crop.column, flip=crop.flip)
    assert clips.shape == (1, 3, len(frames), 112, 112)
    assert clips.is_contiguous(memory_format=torch.channels_last_3d)
    assert (clips[0] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("crop", CROPS)
def test_frames_that_are_stored_resized_are_only_cropped(crop):
    (image,) = frames_of(128, 171, 1)
    plan = plan_resized(resize_width_px=171, crop_px=112, crop=crop)
    out = np.empty((112, 112), np.uint32)
    flipped = image[:, ::-1] if crop.flip else image
    expected = flipped[crop.row : crop.row + 112, crop.column : crop.column + 112]
    for index in (plan.crop_index(), plan.source_index(176)):
        out.fill(0)
        gather(as_pixels(image), index, out)
        assert np.array_equal(out.view(np.uint8).reshape(112, 112, 4)[..., :3], expected)


def test_the_central_crop_rounds_half_to_even():
    assert central_crop(128, 171, 112) == Crop(8, 30)


def test_no_frames_are_blended_to_none():
    """As a chunk of a video without new frames comes: of no size, its strides mean nothing."""
    pixels = torch.empty_strided((1, 0, 8, 8, 4), (0, 0, 0, 0, 0), dtype=torch.uint8)
    assert blend(pixels, torch.zeros(1, 4), torch.zeros(1, 4)).shape == (1, 3, 0, 4, 4)
