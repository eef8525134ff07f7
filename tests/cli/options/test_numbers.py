"""Numbers that no machine can act on are refused as numbers, not met later as an error of a clock or of a server."""

from pathlib import Path

import click
import pytest

from tests.cli.conftest import Tspctl
from tests.commands import leaves


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400"])
def test_every_option_that_takes_a_number_refuses_what_is_not_finite(number: str) -> None:
    found = 0
    for name, command in leaves():
        for option in command.params:
            if isinstance(option.type, click.FloatRange):
                found += 1
                with pytest.raises(click.BadParameter):
                    option.type.convert(number, option, None)
            assert option.type is not click.FLOAT, (name, option.opts)
    assert found > 10


@pytest.mark.parametrize(
    "words",
    [
        ("tensorboard", "a", "--every", "1e300"),
        ("watch", "--every", "1e300"),
        ("wait", "a", "--timeout", "1e300"),
        ("cancel", "a", "--grace", "1e300"),
        ("extract", "c.pth", "--data", "v", "--metadata", "m.csv", "--rate", "1e300"),
        ("extract", "c.pth", "--data", "v", "--metadata", "m.csv", "--clip-frames", "99999999999"),
        ("data", "standardize", "a", "b", "--fps", "1e300"),
        ("submit", "--dataset", "demo", "--method", "tac", "--clips-per-segment", "99999999999"),
        ("submit", "--dataset", "demo", "--method", "tac", "--set", "clips.rate_fps=1e300"),
        ("submit", "--dataset", "demo", "--method", "tac", "--deadline", "24856d"),
    ],
)
def test_a_number_beyond_all_use_is_refused(tspctl: Tspctl, local: Path, words: tuple[str, ...]) -> None:
    ended = tspctl(*words)
    assert (ended.code, "unexpected" in ended.err) == (2, False)
    assert words[-2] in ended.err or words[-1].partition("=")[0] in ended.err


def test_the_longest_deadline_is_the_longest_of_a_pod(tspctl: Tspctl, local: Path) -> None:
    """Of a pod's activeDeadlineSeconds the API server takes 1 to 2147483647, which is 596523 hours and 14 minutes."""
    submit = ("submit", "--dataset", "demo", "--method", "tac", "--deadline")
    assert "--deadline does nothing" in tspctl(*submit, "596523h14m").err
    assert "is longer than 24855d" in tspctl(*submit, "596523h15m").err
