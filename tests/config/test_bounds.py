"""Bounds of numbers stand on their fields and are checked when the object is built."""

from dataclasses import dataclass

import pytest

from tsp.config.bounds import check_numbers, number
from tsp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Oven:
    heat: float = number("--heat", 200.0, above=0)
    trays: int | None = number("--trays", None, at_least=1)
    share: float = number("oven.share", 0.5, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        check_numbers(self)


@pytest.mark.parametrize("given", [{}, {"heat": 1e-9}, {"trays": 1}, {"trays": None}, {"share": 0}, {"share": 1.0}])
def test_the_bounds_themselves_are_allowed(given):
    Oven(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heat": 0}, "--heat must be above 0, got 0"),
        ({"heat": float("nan")}, "--heat must be above 0, got nan"),
        ({"heat": float("inf")}, "--heat must be above 0, got inf"),
        ({"trays": 0}, "--trays must be at least 1, got 0"),
        ({"share": -0.01}, r"oven\.share must lie in \[0, 1\], got -0.01"),
        ({"share": 1.01}, r"oven\.share must lie in \[0, 1\], got 1.01"),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_name(given, message):
    with pytest.raises(ConfigError, match=message):
        Oven(**given)
