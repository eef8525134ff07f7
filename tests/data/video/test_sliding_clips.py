"""One pass over a video hands out exactly the frames that reading each clip by itself would."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.videos import FPS_15, FPS_24, FPS_25, FPS_30, FPS_60, FPS_NTSC, Made, number_of, write_video
from tsp.data.clips import extraction_starts_sec
from tsp.data.video import ClipReader, VideoError
from tsp.data.video.decode_ways import Way, decode_all_from_beginning, decode_wanted
from tsp.data.video.sliding_clips import Slide, SlideChooser


def starts(num_frames: int, fps: float, stride: int = 1) -> list[float]:
    return extraction_starts_sec(num_frames, fps, stride_frames=stride, length_frames=16, rate_fps=15.0)


def slid_clips(slide: Slide) -> list[list[int]]:
    """The numbers that the frames of each clip show."""
    shown = {frame.number: number_of(frame.pixels.view(np.uint8).reshape(*frame.pixels.shape, 4)[:, : frame.width, :3])
             for frame in slide.frames()}  # fmt: skip
    return [[shown[first + offset] for offset in slide.offsets] for first in slide.firsts]


@pytest.mark.parametrize(
    ("made", "table_fps"),
    [
        (Made(fps=FPS_30, num_frames=150), 30.0),
        (Made(fps=FPS_30, num_frames=90, b_frames=0, first_pts=3), 30.0),
        (Made(fps=FPS_25, num_frames=90), 25.0),
        (Made(fps=FPS_24, num_frames=80), 24.0),
        (Made(fps=FPS_NTSC, num_frames=120), 29.97),
        (Made(fps=FPS_60, num_frames=150), 60.0),
        (Made(fps=FPS_15, num_frames=60), 15.0),
        (Made(fps=FPS_30, num_frames=80, codec="mpeg4"), 30.0),
    ],
)
def test_a_slide_over_a_file_gives_the_clips_that_reading_one_by_one_gives(
    made: Made, table_fps: float, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "video.mp4", made)
    starts_sec = starts(made.num_frames - made.first_pts, table_fps)
    reader = ClipReader()
    one_by_one = [[number_of(frame) for frame in reader.read(path, start, file_fps=table_fps)] for start in starts_sec]
    assert slid_clips(Slide(path, starts_sec, file_fps=table_fps)) == one_by_one
    reader.close()


@pytest.mark.parametrize("stride", [1, 16])
def test_the_clips_of_a_constant_rate_file_start_at_exactly_the_frames_of_the_table(
    stride: int, tmp_path: Path
) -> None:
    # k / 30 rounded down to a multiple of the time base would start some of these a frame early.
    path = write_video(tmp_path / "video.mp4", Made(num_frames=960, width=64, height=48, gop=250))
    starts_sec = starts(960, 30.0, stride)
    slide = Slide(path, starts_sec, file_fps=30.0)
    clips = slid_clips(slide)
    assert [clip[0] for clip in clips] == [2 * stride * index for index in range(len(starts_sec))]
    assert all(clip == list(range(clip[0], clip[0] + 32, 2)) for clip in clips)


def test_a_frame_that_many_clips_share_is_handed_out_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", Made(num_frames=90))
    numbers = [frame.number for frame in Slide(path, starts(90, 30.0), file_fps=30.0).frames()]
    assert numbers == list(range(0, 89, 2))


def test_leaving_out_unneeded_frames_changes_no_pixel(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", Made(num_frames=90, noise=9))
    fast, plain = (list(Slide(path, starts(90, 30.0), short_cuts=short).frames()) for short in (True, False))
    assert [frame.number for frame in fast] == [frame.number for frame in plain]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(fast, plain, strict=True))


def test_a_file_that_ends_early_says_how_many_clips_begin_after_its_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", Made(num_frames=60))
    slide = Slide(path, starts(90, 30.0), file_fps=30.0)
    assert [frame.number for frame in slide.frames()][-1] == 59 - 1
    # clips start at the frames 0, 2, ..., 58: none of these after frame 59
    assert (len(slide.firsts), slide.num_beyond) == (30, 0)
    slide = Slide(path, starts(120, 30.0), file_fps=30.0)
    list(slide.frames())
    assert (len(slide.firsts), slide.num_beyond) == (45, 15)


def test_a_file_cut_short_is_a_video_error_that_names_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", Made(num_frames=60))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(VideoError, match=r"video\.mp4"):
        list(Slide(path, [0.0]).frames())


def test_starts_out_of_order_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", Made(num_frames=60))
    with pytest.raises(ValueError, match="rising"):
        Slide(path, [1.0, 0.5])


def test_what_a_chooser_remembers_does_not_grow_with_the_clips_behind_it() -> None:
    chooser = SlideChooser(starts(3000, 30.0), range(0, 32, 2), Fraction(1, 30), Fraction(30))
    most = 0
    for pts in range(3000):
        chooser.push(pts)
        chooser.wanted.pop(pts - 1, None)
        most = max(most, len(chooser.wanted) + len(chooser._wants_at))
    assert len(chooser.firsts) == 1485
    assert most < 40


@pytest.mark.parametrize(
    ("is_skippable", "short_cuts", "first"),
    [(True, True, decode_wanted), (True, False, decode_all_from_beginning), (False, True, decode_all_from_beginning)],
)
def test_unneeded_frames_are_left_out_where_the_codec_allows_it_and_it_is_not_turned_off(
    is_skippable: bool, short_cuts: bool, first: Way
) -> None:
    slide = Slide.__new__(Slide)
    slide._source, slide._short_cuts = SimpleNamespace(is_skippable=is_skippable), short_cuts
    assert slide._ways()[0] is first
    assert slide._ways()[-1] is decode_all_from_beginning
