"""Phrases that many messages share."""

import pytest

from tsp.wording import counted, counted_is, harmless


@pytest.mark.parametrize(("number", "said"), [(0, "0 videos"), (1, "1 video"), (2, "2 videos"), (11, "11 videos")])
def test_one_is_singular_and_any_other_number_plural(number, said):
    assert counted(number, "video") == said


@pytest.mark.parametrize(("noun", "said"), [("batch", "2 batches"), ("class", "2 classes"), ("clip", "2 clips")])
def test_plurals_are_english(noun, said):
    assert counted(2, noun) == said


def test_the_verb_follows_the_number():
    assert [counted_is(number, "run") for number in (0, 1, 2)] == ["0 runs are", "1 run is", "2 runs are"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ntext\twith tabs, übung, 映画", "plain\ntext\twith tabs, übung, 映画"),
        ("from Windows\r\nin two lines", "from Windows\nin two lines"),
        ("\x1b[2Jcleared", r"\x1b[2Jcleared"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J and \x9d0;title\x9c", r"\x9b2J and \x9d0;title\x9c"),
        ("hidden\rshown", r"hidden\rshown"),
        ("gone\b\b\b\b", r"gone\x08\x08\x08\x08"),
        ("a\u202egnp.4pm", r"a\u202egnp.4pm"),
        ("\udcff broken name", r"\udcff broken name"),
    ],
)
def test_text_from_elsewhere_cannot_act_on_a_terminal(text, shown):
    assert harmless(text) == shown
    assert harmless(shown) == shown
