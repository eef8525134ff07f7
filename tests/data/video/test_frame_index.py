"""Which frames of a file that lists them a clip has, from the list alone."""

from types import SimpleNamespace

import pytest

from tsp.data.video.frame_index import FrameIndex


class Entries(list):
    def search_timestamp(self, pts):
        return max((at for at, entry in enumerate(self) if entry.timestamp <= pts), default=-1)


def index_of(times, *, origin=0, without=()):
    """As of a file whose frames have these times; those left out were dropped by the writer."""
    found = FrameIndex.__new__(FrameIndex)
    sizes = [0 if at in without else 100 for at in range(len(times))]
    found._entries = Entries(SimpleNamespace(timestamp=t, size=s) for t, s in zip(times, sizes, strict=True))
    found._origin = origin
    return found


TEN = range(0, 100, 10)


@pytest.mark.parametrize(
    ("start_pts", "offsets", "numbers"),
    [
        (0, [0, 1, 2], [0, 1, 2]),
        (9, [0, 2, 4], [0, 2, 4]),
        (10, [0, 2, 4], [1, 3, 5]),
        (-5, [0, 1], [0, 1]),
        (0, [0, 9], [0, 9]),
        (0, [0, 10], None),
        (0, [0, 11], None),
        (0, [0, 500], None),
        (90, [0], [9]),
        (95, [0, 1], None),
        (60, [0, 3], [6, 9]),
        (60, [0, 4], None),
        (60, [0, 5], None),
    ],
)
def test_a_clip_begins_with_the_frame_on_screen_and_ends_within_the_file(start_pts, offsets, numbers):
    assert index_of(TEN).numbers(start_pts, offsets) == numbers
    assert index_of([1000 + time for time in TEN], origin=1000).numbers(start_pts, offsets) == numbers


@pytest.mark.parametrize(
    ("times", "without", "numbers"),
    [
        ([0, 10, 20, 30], (), [0, 1, 2]),
        ([0, 10, 10, 30], (), None),
        ([0, 10, 20, 20], (), None),
        ([0, 10, 20, 30, 30], (), [0, 1, 2]),
        ([0, 10, 5, 30], (), None),
        ([0, 10, 20, 30], (1,), None),
        ([0, 10, 20, 30, 40], (4,), [0, 1, 2]),
    ],
)
def test_frames_of_one_time_or_without_data_are_left_to_the_decoder(times, without, numbers):
    assert index_of(times, without=without).numbers(0, [0, 1, 2]) == numbers
