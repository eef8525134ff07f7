"""Which decoded frames make up each clip, as frames arrive."""

import pytest

from tsp.extract.clip_rows import ClipRows


def rows_of(rows: ClipRows, firsts: list[int]) -> list[list[int]]:
    return rows.complete(firsts).tolist()


def test_a_clip_is_given_once_its_last_frame_is_there():
    rows, firsts = ClipRows([0, 2, 4]), [0, 2, 4]
    found = []
    for number in range(7):
        rows.add(number)
        found.append(rows_of(rows, firsts))
    assert found == [[], [], [], [], [[0, 2, 4]], [], [[2, 4, 6]]]
    assert rows.num_clips == 2
    assert rows.padded(firsts).tolist() == [[4, 6, 6]]
    assert rows.num_clips == 3


def test_several_clips_may_be_complete_at_once_and_none_has_rows_of_its_shape():
    rows = ClipRows([0, 1])
    assert rows.complete([0]).shape == (0, 2)
    for number in range(4):
        rows.add(number)
    assert rows_of(rows, [0, 1, 2, 3]) == [[0, 1], [1, 2], [2, 3]]


def test_frames_that_were_left_out_do_not_count_among_the_positions():
    rows = ClipRows([0, 3])
    for number in (0, 3, 6):
        rows.add(number)
    assert rows_of(rows, [0, 3]) == [[0, 1], [1, 2]]


@pytest.mark.parametrize(("firsts", "oldest"), [([0], 4), ([0, 2], 2), ([0, 3], 3), ([0, 9], 4)])
def test_only_frames_that_a_later_clip_can_need_are_remembered(firsts, oldest):
    rows = ClipRows([0, 3])
    for number in range(5):
        rows.add(number)
    assert rows_of(rows, firsts) == [[0, 3]]
    assert rows.oldest_position == oldest


def test_before_any_frame_the_next_one_is_the_oldest():
    rows = ClipRows([0, 1])
    assert rows.oldest_position == 0


def test_a_clip_that_begins_before_the_picture_repeats_its_first_frame():
    rows = ClipRows([0, 1, 2])
    for number in range(3):
        rows.add(number)
    assert rows_of(rows, [-1]) == [[0, 0, 1]]


def test_clips_that_begin_before_the_picture_are_given_one_by_one_as_frames_arrive():
    rows, firsts, found = ClipRows([0, 2, 4]), [-3, -2, -1, 0, 1], []
    for number in range(6):
        rows.add(number)
        found += rows_of(rows, firsts)
    assert found == [[max(0, first + offset) for offset in (0, 2, 4)] for first in firsts]
