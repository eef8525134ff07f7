"""Times in the order of presentation: those that are missing are filled in."""

import pytest

from tsp.data.video.decoded_order import filled, in_order, never_fall, rise


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 10, 20], [0, 10, 20]),
        ([0, None, 20], [0, 10, 20]),
        ([0, None, None, 10], [0, 3, 7, 10]),
        ([None, 10, 20, None, None], [0, 10, 20, 30, 40]),
        ([None, None, 10, None, 30], [-10, 0, 10, 20, 30]),
        ([5, None, None, 35, None], [5, 15, 25, 35, 45]),
        ([None, 7, None], []),
        ([None, None], []),
        ([], []),
        ([7], [7]),
        # a pause is behind the frames that follow its beginning
        ([0, 10, None, None, 300, 310, None], [0, 10, 20, 30, 300, 310, 320]),
        # where frames come faster for a while, those without a time still rise
        ([0, None, None, 9, 20, 31, 42], [0, 3, 6, 9, 20, 31, 42]),
    ],
)
def test_missing_times_follow_those_that_are_there_at_the_usual_distance_or_as_there_is_room(times, expected):
    assert filled(times) == expected


@pytest.mark.parametrize(
    ("times", "rises", "does_not_fall"),
    [([], False, False), ([3], False, True), ([1, 2], True, True), ([1, 1], False, True), ([2, 1], False, False),
     ([1, 2, 2, 3], False, True), ([1, 3, 2], False, False), ([-1, 0, 5], True, True)],
)  # fmt: skip
def test_times_that_rise_are_told_from_those_that_only_do_not_fall(times, rises, does_not_fall):
    assert (rise(times), never_fall(times)) == (rises, does_not_fall)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # even times that were exchanged, also with the rounding of milliseconds
        ([0, 30, 10, 20, 40], [0, 10, 20, 30, 40]),
        ([0, 67, 33, 100], [0, 33, 67, 100]),
        # one that is early, late, or far away
        ([0, 10, 20, 5, 40, 50], [0, 10, 20, 30, 40, 50]),
        ([0, 10, 55, 30, 40, 50, 60], [0, 10, 20, 30, 40, 50, 60]),
        ([0, 10, 9_000_000, 30, 40], [0, 10, 20, 30, 40]),
        ([500, 10, 20, 30], [0, 10, 20, 30]),
        ([0, 10, 20, -7], [0, 10, 20, 30]),
        # a pause stays
        ([0, 10, 20, 330, 320, 340], [0, 10, 20, 30, 320, 340]),
        ([7], [7]),
        ([], []),
    ],
)
def test_times_of_frames_in_order_are_sorted_or_all_but_the_wrong_ones_are_kept(times, expected):
    assert in_order(times) == expected
    assert in_order(expected) == expected
