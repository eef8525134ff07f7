"""Clip arithmetic against figures read from the published system."""

import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsp.data.clips import (
    clip_start_sec,
    extraction_starts_sec,
    frame_offsets,
    holds_a_clip,
    last_pts,
    uniform_shares,
)

CLIP_SEC = 16 / 15


def uniform_starts_sec(start_sec, end_sec):
    return [clip_start_sec(start_sec, end_sec, share, CLIP_SEC) for share in uniform_shares(5)]


@pytest.mark.parametrize(
    ("segment", "starts"),
    [
        ((0.2, 1.3), [0.2, 0.20833333333333337, 0.21666666666666673, 0.2250000000000001, 0.23333333333333345]),
        ((11.4, 14.2), [11.4, 11.833333333333334, 12.266666666666666, 12.7, 13.133333333333333]),
        ((0.0, 67.5), [0.0, 16.608333333333334, 33.21666666666667, 49.825, 66.43333333333334]),
    ],
)
def test_validation_clips_start_where_the_original_starts_them(segment, starts):
    assert uniform_starts_sec(*segment) == starts


@pytest.mark.parametrize(
    ("file_fps", "offsets"),
    [
        (15.0, list(range(16))),
        (24.0, [0, 1, 3, 4, 6, 8, 9, 11, 12, 14, 16, 17, 19, 20, 22, 24]),
        (25.0, [0, 1, 3, 5, 6, 8, 10, 11, 13, 15, 16, 18, 20, 21, 23, 25]),
        (29.97, [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29]),
        (Fraction(30000, 1001), [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29]),
        (30.0, list(range(0, 32, 2))),
        (60.0, list(range(0, 64, 4))),
    ],
)
def test_a_clip_takes_the_frames_that_the_original_takes(file_fps, offsets):
    assert list(frame_offsets(15.0, file_fps, 16)) == offsets


@pytest.mark.parametrize(
    ("frames", "fps", "stride", "num_clips", "first", "last"),
    [
        (480, 30.0, 16, 15, 1.0666666666666667, 14.933333333333334),
        (480, 30.0, 1, 225, 0.06666666666666667, 14.933333333333334),
        (300, 25.0, 16, 11, 1.04, 10.64),
        (301, 29.97, 8, 17, 0.5005005005005005, 8.508508508508509),
        (33, 30.0, 1, 2, 0.06666666666666667, 0.06666666666666667),
    ],
)
def test_extraction_slides_as_the_original_slides(frames, fps, stride, num_clips, first, last):
    starts = extraction_starts_sec(frames, fps, stride_frames=stride, length_frames=16, rate_fps=15.0)
    assert (len(starts), starts[0], starts[1], starts[-1]) == (num_clips, 0.0, first, last)


def test_all_golden_figures_agree(shared_dir):
    golden = json.loads((shared_dir / "golden" / "tsp_golden.json").read_text())
    for case in golden["uniform_clip_starts_clip16_fps15_clips5"]:
        assert uniform_starts_sec(case["t_start"], case["t_end"]) == case["clip_starts"]
    for case in golden["extraction_clip_starts_clip16_fps15"]:
        starts = extraction_starts_sec(
            case["video_frames"], case["fps"], stride_frames=case["stride"], length_frames=16, rate_fps=15.0
        )
        assert len(starts) == case["num_clips"]
        assert starts[: len(case["first"])] == case["first"]
        assert starts[-len(case["last"]) :] == case["last"]


@given(
    start=st.floats(0, 1e4), length=st.floats(0, 1e3), share=st.floats(0, 1), file_fps=st.sampled_from([15, 25, 30, 60])
)
def test_no_clip_leaves_its_segment(start, length, share, file_fps):
    end = start + length
    if not holds_a_clip(start, end, 15.0, 16):
        return
    begin = clip_start_sec(start, end, share, CLIP_SEC)
    last_frame_sec = begin + frame_offsets(15.0, float(file_fps), 16)[-1] / file_fps
    assert begin >= start - 1e-9
    assert last_frame_sec < end


@given(frame=st.integers(0, 10**6), fps=st.sampled_from([Fraction(30), Fraction(25), Fraction(30000, 1001)]))
def test_a_clip_that_starts_with_a_frame_has_it_first_however_its_time_was_rounded(frame, fps):
    time_base = 1 / (fps * 512)
    assert last_pts(float(frame / fps), time_base) // 512 == frame


@given(start=st.floats(0, 1e5), den=st.sampled_from([1000, 15360, 12800, 30000, 90000]))
def test_the_frame_on_screen_is_the_last_that_is_not_after_the_start(start, den):
    pts = last_pts(start, Fraction(1, den))
    assert pts / den <= start < (pts + 1) / den


def test_rounding_down_would_start_some_clips_a_frame_early():
    starts = [frame / 30 for frame in range(3000)]
    early = sum(math.floor(Fraction(start) * 15360) // 512 != frame for frame, start in enumerate(starts))
    assert early > 100
    assert all(last_pts(start, Fraction(1, 15360)) // 512 == frame for frame, start in enumerate(starts))
