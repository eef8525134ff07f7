"""Which frames FFmpeg has to be told the range of."""

import re
import shlex

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from tests import ffmpeg
from tsp.data.video import ClipReader, VideoError
from tsp.data.video.colour import full_range, to_rgb
from tsp.data.video.inspect import inspect_video
from tsp.data.video.sliding_clips import Slide
from tsp.data.video.transcode import transcode


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


@pytest.mark.parametrize("matrix", [0, 1, 3, 8, 10, 12, 14, 17, 200])
def test_colours_of_which_no_rgb_can_be_made_are_told_by_all_readers_with_a_cure(tmp_path, matrix):
    """``check`` must not pass a file of which training can read no clip."""
    plain = ffmpeg.make(tmp_path / "plain.mp4", "-c:v libx264 -pix_fmt yuv420p", num_frames=20)
    path = tmp_path / "marked.mp4"
    mark = f"h264_metadata=matrix_coefficients={matrix}"
    ffmpeg.run("-v", "error", "-i", str(plain), "-c", "copy", "-bsf:v", mark, str(path))
    if matrix in (0, 1, 3, 200):
        assert inspect_video(path).faults == ()
        ClipReader(length_frames=4).read(path, 0.0)
        transcode(path, tmp_path / "standard.mp4")
        return
    (fault,) = inspect_video(path).faults
    assert "of which FFmpeg makes no RGB" in fault
    for read in (lambda: ClipReader(length_frames=4).read(path, 0.0), lambda: list(Slide(path, [0.0]).frames())):
        with pytest.raises(VideoError) as error:
            read()
        assert str(error.value) == f"{path}: {fault}"
    if matrix == 10:
        assert "run 'tspctl data standardize'" in fault
        assert transcode(path, tmp_path / "standard.mp4").num_frames == 20
        return
    with pytest.raises(VideoError, match=re.escape(f"{path} cannot be standardised: {fault}")):
        transcode(path, tmp_path / "standard.mp4")
    _, *options = shlex.split(fault[fault.index("ffmpeg") : fault.index("' (or")])
    cured = tmp_path / "cured.mp4"
    ffmpeg.run(*({"IN": str(path), "OUT": str(cured)}.get(option, option) for option in options))
    assert inspect_video(cured).faults == ()
    assert np.array_equal(ClipReader(length_frames=4).read(cured, 0.0), ClipReader(length_frames=4).read(plain, 0.0))
