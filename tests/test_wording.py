"""Phrases that many messages share."""

import pytest

from tsp.wording import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 videos"), (1, "1 video"), (2, "2 videos"), (11, "11 videos")])
def test_one_is_singular_and_any_other_number_plural(number, said):
    assert counted(number, "video") == said
