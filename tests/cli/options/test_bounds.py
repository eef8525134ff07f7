"""A number has one owner of its bounds, the field that it sets; an option only shows them in its help."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import click
import pytest

from cli.main import COMMANDS
from cli.options.recipe import RECIPE_OPTIONS
from tests.commands import leaves
from tsp.config.bounds import Bounds, bounds_of
from tsp.config.jobs import JOBS
from tsp.config.run import DataConfig, RunConfig


def all_bounds(config: type, prefix: str = "") -> Iterator[tuple[str, Bounds]]:
    """Key and bounds of the numbers of a configuration and its parts."""
    bounds = bounds_of(config)
    for item in dataclasses.fields(config):
        if item.name in bounds:
            yield f"{prefix}{item.name}", bounds[item.name]
        elif dataclasses.is_dataclass(item.default_factory):
            yield from all_bounds(item.default_factory, f"{prefix}{item.name}.")


def owners() -> dict[str, Bounds]:
    """Option -> bounds: by the name that messages give it, or by the key that a recipe's option sets."""
    of_key = dict(all_bounds(RunConfig)) | dict(all_bounds(DataConfig, "data."))
    found = {each.flag: of_key[each.key] for each in RECIPE_OPTIONS if each.key in of_key}
    for bounds in (*of_key.values(), *(bounds for job in JOBS.values() for _, bounds in all_bounds(job))):
        if bounds.name.startswith("--"):
            other = found.setdefault(bounds.name, bounds)
            assert str(other) == str(bounds), f"{bounds.name} has two bounds"
    return found


def bounded_options() -> list[Any]:
    known = owners()
    return [
        pytest.param(option, known[flag], id=f"{name} {flag}")
        for name, command in leaves()
        for option in command.params
        for flag in option.opts
        if flag in known
    ]


@pytest.mark.parametrize(("option", "bounds"), bounded_options())
def test_an_option_shows_the_bounds_of_the_number_that_it_sets(option: click.Option, bounds: Bounds) -> None:
    kind = option.type
    assert isinstance(kind, click.IntRange | click.FloatRange), f"the field says: must {bounds}"
    least = bounds.above if bounds.at_least is None else bounds.at_least
    assert (kind.min, kind.max, kind.min_open) == (least, bounds.at_most, bounds.above is not None)


def test_an_option_that_a_message_names_exists() -> None:
    flags = {flag for _, command in leaves() for option in command.params for flag in option.opts}
    assert set(owners()) <= flags
    assert len(COMMANDS) <= len(bounded_options())
