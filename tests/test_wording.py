"""Phrases that many messages share."""

import pytest

from tsp.wording import counted, counted_is


@pytest.mark.parametrize(("number", "said"), [(0, "0 videos"), (1, "1 video"), (2, "2 videos"), (11, "11 videos")])
def test_one_is_singular_and_any_other_number_plural(number, said):
    assert counted(number, "video") == said


@pytest.mark.parametrize(("noun", "said"), [("batch", "2 batches"), ("class", "2 classes"), ("clip", "2 clips")])
def test_plurals_are_english(noun, said):
    assert counted(2, noun) == said


def test_the_verb_follows_the_number():
    assert [counted_is(number, "run") for number in (0, 1, 2)] == ["0 runs are", "1 run is", "2 runs are"]
