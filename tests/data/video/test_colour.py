"""Which frames FFmpeg has to be told the range of."""

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from tsp.data.video.colour import full_range, to_rgb


def noise(pixel_format: str, color_range: ColorRange) -> VideoFrame:
    pixels = np.random.default_rng(1).integers(0, 256, (48 * 3 // 2, 64), dtype=np.uint8)
    frame = VideoFrame.from_ndarray(pixels, format=pixel_format)
    frame.color_range = color_range
    return frame


@pytest.mark.parametrize(
    ("pixel_format", "color_range", "told"),
    [
        ("yuv420p", ColorRange.JPEG, ColorRange.JPEG),
        ("yuv420p", ColorRange.MPEG, None),
        ("yuvj420p", ColorRange.JPEG, None),
    ],
)
def test_the_range_is_told_where_the_pixel_format_does_not_say_it(pixel_format, color_range, told):
    assert full_range(noise(pixel_format, color_range)) == told


def test_a_format_made_for_jpeg_gives_the_same_bits_told_or_not():
    frame = noise("yuvj420p", ColorRange.JPEG)
    told = VideoReformatter().reformat(frame, format="rgb24", src_color_range=ColorRange.JPEG, threads=1)
    assert np.array_equal(to_rgb(VideoReformatter(), frame).to_ndarray(), told.to_ndarray())
