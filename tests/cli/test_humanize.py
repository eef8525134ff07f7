from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.humanize import curve, show, show_duration, show_size


def test_figures_are_short() -> None:
    assert [show_duration(seconds) for seconds in (0, 59, 60, 3700, 200_000)] == [
        "0s",
        "59s",
        "1m00s",
        "1h01m",
        "2d07h",
    ]
    assert [show_size(size) for size in (512, 1536, 5 << 30)] == ["512 B", "1.5 KiB", "5.0 GiB"]
    assert [show(value) for value in (None, True, float("nan"), 1e-5, "x")] == ["-", "yes", "nan", "1e-05", "x"]
    assert show(datetime.now(UTC) - timedelta(hours=2, minutes=30)) == "2h30m ago"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0], "▁█ 0 -> 1"),
        ([1.0, 0.5, 0.0], "█▅▁ 1 -> 0"),
        ([2.0, 2.0], "▁▁ 2 -> 2"),
        ([0.0, None, float("nan"), 7.0], "▁█ 0 -> 7"),
        ([], None),
        ([3.0], None),
        ([float(n) for n in range(8)], "▁▂▃▄▅▆▇█ 0 -> 7"),
    ],
)
def test_a_curve_shows_its_course_and_its_ends(values: list[float | None], expected: str | None) -> None:
    assert curve(values) == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=500), st.integers(2, 60))
def test_a_curve_is_never_wider_than_it_may_be_and_starts_as_its_values_do(values: list[float], width: int) -> None:
    drawn = curve(values, width)
    assert drawn is not None
    blocks, _, ends = drawn.partition(" ")
    assert 1 <= len(blocks) <= width
    assert ends == f"{values[0]:.4g} -> {values[-1]:.4g}"
