"""Frame choice against the plain rule, over arbitrary times."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.reference import clip_indices
from tsp.data.clips import frame_offsets
from tsp.data.video.frame_chooser import FrameChooser

TIME_BASE = Fraction(1, 600)
TIMES = st.lists(st.integers(-20, 4000), min_size=1, max_size=200, unique=True).map(sorted)


@example(times=[1104], starts=[1.2578125], fps=30)
@given(
    times=TIMES, starts=st.lists(st.floats(0, 7), min_size=1, max_size=6), fps=st.sampled_from([7, 15, 24, 25, 30, 60])
)
def test_the_chosen_frames_are_those_of_the_rule_for_any_times(times, starts, fps):
    chooser = FrameChooser(starts, frame_offsets(15, fps, 16), TIME_BASE, Fraction(fps))
    for pts in times:
        chooser.push(pts)
    chooser.finish()
    seconds = [pts / 600 for pts in times]
    expected = {}
    for clip, start in enumerate(starts):
        for k, index in enumerate(clip_indices(seconds, start, Fraction(fps))):
            if index < len(times):
                expected.setdefault(times[index], set()).add((clip, k))
    assert {pts: set(wants) for pts, wants in chooser.wanted.items()} == expected
    assert chooser.missing() == 16 * len(starts) - sum(len(wants) for wants in expected.values())


@given(times=TIMES, starts=st.lists(st.floats(0, 7), min_size=1, max_size=4))
def test_a_frame_once_said_to_be_unwanted_is_never_wanted_later(times, starts):
    chooser = FrameChooser(starts, frame_offsets(15, 30, 16), TIME_BASE, Fraction(30))
    unwanted = set()
    for index, pts in enumerate(times):
        chooser.push(pts)
        unwanted |= {early for early in times[: index + 1] if chooser.is_decided(early) and early not in chooser.wanted}
    chooser.finish()
    assert not unwanted & set(chooser.wanted)


def test_times_that_do_not_rise_are_refused():
    chooser = FrameChooser([0.0], (0, 1), TIME_BASE, Fraction(30))
    assert chooser.push(10)
    assert not chooser.push(10)
    assert not chooser.push(5)


@pytest.mark.parametrize(("start_sec", "shown_before"), [(0.0, 5), (0.049, 4), (0.051, 3), (0.14, 1), (0.2, 0)])
@pytest.mark.parametrize(
    ("time_base", "first_pts"), [(Fraction(1, 600), 100), (Fraction(1001, 30000), 5), (Fraction(1, 30), 5)]
)
def test_before_a_picture_that_begins_late_it_is_shown_again_at_the_files_rate(
    time_base, first_pts, start_sec, shown_before
):
    # The first picture begins a sixth of a second late, five frames at 30 fps: with it, six pictures are the first.
    chooser = FrameChooser([start_sec], range(shown_before + 2), time_base, Fraction(30))
    times = [first_pts, 2 * first_pts]
    for pts in times:
        assert chooser.push(pts)
    chooser.finish()
    wanted = {times[0]: [(0, k) for k in range(shown_before + 1)], times[1]: [(0, shown_before + 1)]}
    assert chooser.wanted == wanted
