"""What an option or a value of the chart lets people choose from is what the field that it sets takes, in its order.

The types of fields are not loaded for ``--help``, and the chart is no Python: both write the choices down again.
"""

import json
import typing
from pathlib import Path
from typing import Any

import click
import pytest

from cli.commands.submit import submit
from cli.options.pods import pod_options, take_pod_options
from cli.options.recipe import RECIPE_OPTIONS
from k8s.job_apis import Api
from k8s.pod_options import PodOptions
from tests.commands import command_of, leaves
from tsp.config.jobs import JOBS
from tsp.config.recipes import Heads
from tsp.config.run import DataConfig, GvfPool, Method, Precision, RunConfig
from tsp.config.store import ChecksumMode

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "charts" / "tsp" / "values.schema.json").read_text())


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The members of a Literal, or of one that may be None."""
    members = typing.get_args(hint)
    return members if typing.get_origin(hint) is typing.Literal else next(filter(None, map(choices_of, members)), ())


def hint_of(config: type, key: str) -> Any:
    """Of a dotted key."""
    name, _, rest = key.partition(".")
    hint = DataConfig if name == "data" else typing.get_type_hints(config)[name]
    return hint_of(hint, rest) if rest else hint


def offered(option: click.Parameter) -> tuple[Any, ...]:
    return tuple(option.type.choices) if isinstance(option.type, click.Choice) else ()


@pytest.mark.parametrize("option", RECIPE_OPTIONS, ids=lambda option: option.flag)
def test_a_recipes_option_offers_what_its_key_takes(option) -> None:
    (parameter,) = [each for each in submit.params if each.name == option.parameter]
    assert offered(parameter) == choices_of(hint_of(RunConfig, option.key))


@pytest.mark.parametrize(("name", "kind"), [("method", Method), ("heads", Heads), ("gvf", GvfPool)])
def test_what_chooses_a_recipe_offers_what_it_takes(name, kind) -> None:
    found = [option for _, command in leaves() for option in command.params if option.name == name]
    assert found
    assert {offered(option) for option in found} == {choices_of(kind)}


@pytest.mark.parametrize("kind", JOBS)
def test_an_option_of_a_job_offers_what_its_field_takes(kind) -> None:
    hints = typing.get_type_hints(JOBS[kind])
    options = {option.name: option for option in command_of(kind).params}
    for name in hints.keys() & options.keys():
        assert offered(options[name]) == choices_of(hints[name]), f"--{name} of {kind}"


def test_the_options_of_pods_are_the_fields_that_k8s_knows() -> None:
    @click.command()
    @pod_options
    def command(**given: Any) -> None: ...

    options = {option.name: option for option in command.params}
    assert set(options) == set(typing.get_type_hints(PodOptions)) == set(take_pod_options(dict.fromkeys(options)))
    assert offered(options["job_api"]) == ("auto", *typing.get_args(Api))
    assert offered(options["gang"]) == tuple(SCHEMA["properties"]["gang"]["enum"][1:])


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("method", ("", *choices_of(Method))),
        ("heads", ("", *choices_of(Heads))),
        ("gvf", ("", *choices_of(GvfPool))),
        ("precision", ("", *choices_of(Precision))),
        ("job.api", ("auto", *choices_of(Api))),
        ("store.checksums", choices_of(ChecksumMode)),
    ],
)
def test_the_chart_offers_what_a_field_takes(key, choices) -> None:
    schema = SCHEMA
    for name in key.split("."):
        schema = schema["properties"][name]
    assert tuple(schema["enum"]) == choices
