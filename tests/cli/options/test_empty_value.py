"""An option or argument that is an empty text is refused: taken as not given, it would mean something else."""

from collections.abc import Iterator
from itertools import cycle

import click
import pytest

from cli.main import tspctl as root
from tests.cli.conftest import Tspctl

FROM_ANOTHER_PROGRAM = {("exec", "command")}


def every_value(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Each option that takes a value and each argument, with the words of its command."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            child = command.get_command(click.Context(command), name)
            assert child is not None
            yield from every_value(child, (*path, name))
        return
    for item in command.params:
        if (path[-1], item.name) not in FROM_ANOTHER_PROGRAM and not getattr(item, "is_flag", False):
            yield path, item


VALUES: dict[str, list[click.Parameter]] = {}
for words, item in every_value(root):
    VALUES.setdefault(" ".join(words), []).append(item)


def words_of(command: str, item: click.Parameter, value: str) -> list[str]:
    # An option with an optional value takes one behind an equals sign only.
    if isinstance(item, click.Option):
        return [*command.split(), f"{max(item.opts, key=len)}={value}"]
    arguments = [other for other in VALUES[command] if isinstance(other, click.Argument)]
    before = [other.type.choices[0] if isinstance(other.type, click.Choice) else "x" for other in arguments]
    return [*command.split(), *before[: arguments.index(item)], value]


@pytest.mark.parametrize("command", VALUES)
def test_an_empty_value_is_refused_by_name(tspctl: Tspctl, command: str) -> None:
    for value, item in zip(cycle(["", " "]), VALUES[command]):
        if not (item.name or "").endswith("prefix"):
            ended = tspctl(*words_of(command, item, value))
            assert (ended.code, ended.out) == (2, ""), item
            assert "the value is empty: is a shell variable unset?" in ended.err, item
            assert item.get_error_hint(click.Context(root)) in ended.err


def test_a_prefix_may_be_empty(tspctl: Tspctl) -> None:
    ended = tspctl("features", "convert", "nowhere", "there", "--prefix", "")
    assert ended.code == 3, "there is no such folder"


def test_values_of_many_kinds_are_tried() -> None:
    tried = {item.name for items in VALUES.values() for item in items}
    assert {"store", "data", "name", "dest", "run", "runs", "checkpoint", "output", "ranks", "kubeconfig"} <= tried
