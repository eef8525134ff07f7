from datetime import UTC, datetime, timedelta

from cli.humanize import show, show_duration, show_size


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
    assert show(datetime.now(UTC) - timedelta(minutes=5)) == "5m00s ago"
