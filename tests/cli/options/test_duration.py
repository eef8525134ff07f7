import pytest

from cli.options.duration import seconds_in


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("12h", 43200), ("2d", 172800), ("1h30m", 5400), ("0s", 0)],
)
def test_lengths_of_time_are_read(text, seconds):
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "h", "1w", "1.5h", "-1h", "1h ", "٣s"])
def test_what_is_no_length_of_time_is_none(text):
    assert seconds_in(text) is None
