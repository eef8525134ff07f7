"""The backends' names: settings, the option, ``open_backend`` and the packages agree."""

import typing
from pathlib import Path

import click

import cli.backends
from cli.backends.open import open_backend
from cli.commands.list import list_command
from cli.options.settings import Settings

NAMES = typing.get_args(typing.get_type_hints(Settings)["backend"])


def test_every_name_of_the_settings_is_offered_and_opens_the_backend_of_that_name() -> None:
    (option,) = [item for item in list_command.params if item.name == "backend"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == NAMES
    assert tuple(open_backend(Settings(), name).name for name in NAMES) == NAMES


def test_every_package_of_a_backend_is_opened_by_a_name() -> None:
    packages = {path.parent.name for path in Path(cli.backends.__path__[0]).glob("*/backend.py")}
    opened = {type(open_backend(Settings(), name)).__module__.split(".")[2] for name in NAMES}
    assert opened == packages
