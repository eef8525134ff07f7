"""The backends' names: settings, the option, ``open_backend``, the packages and their contract agree."""

import tomllib
import typing
from pathlib import Path

import click
import pytest

import cli.backends
from cli.backends.base import Backend
from cli.backends.open import open_backend
from cli.commands.list import list_command
from cli.options.backend_names import BACKENDS, BackendName
from cli.options.settings import Settings
from cli.stores import Stores

NAMES = typing.get_args(BackendName)
PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def test_every_name_has_its_row_is_offered_and_opens_the_backend_of_that_name() -> None:
    (option,) = [item for item in list_command.params if item.name == "backend"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == tuple(BACKENDS) == NAMES
    assert tuple(open_backend(Settings(), Stores(), name).name for name in NAMES) == NAMES


def test_every_package_of_a_backend_is_opened_by_a_name_and_imported_by_nothing_else() -> None:
    packages = {path.parent.name for path in Path(cli.backends.__path__[0]).glob("*/backend.py")}
    opened = {type(open_backend(Settings(), Stores(), name)).__module__.split(".")[2] for name in NAMES}
    assert opened == packages
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [item for item in contracts if item.get("allowed_importers") == ["cli.backends.open"]]
    assert {f"cli.backends.{name}" for name in packages} == set(contract["protected_modules"])


@pytest.mark.parametrize("name", NAMES)
def test_every_backend_has_all_members_of_the_protocol(name) -> None:
    members = {member for member in Backend.__dict__ if not member.startswith("_")} | set(Backend.__annotations__)
    assert {member for member in members if not hasattr(open_backend(Settings(), Stores(), name), member)} == set()


def test_the_glossary_names_every_backend() -> None:
    (row,) = [
        line for line in (PYPROJECT.parent / "README.md").read_text().splitlines() if line.startswith("| backend |")
    ]
    assert all(f"`{name}`" in row for name in NAMES)
