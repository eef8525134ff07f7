"""The commands of ``tspctl``, as click has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import click

from cli.main import tspctl
from tsp.config.jobs import JOBS


def leaves(command: click.Command = tspctl, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something itself, with its words: ``data probe``."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for each in command.list_commands(context):
        inner = command.get_command(context, each)
        assert inner is not None
        yield from leaves(inner, f"{name} {each}".strip())


def command_of(kind: str) -> click.Command:
    """The command that starts such a job: of those that are named like it the one that sets most of its fields."""
    fields = {item.name for item in dataclasses.fields(JOBS[kind])}
    named = [command for name, command in leaves() if kind in name.split()]
    assert named, f"no command starts a job of kind {kind}"
    return max(named, key=lambda command: len(fields & {option.name for option in command.params}))
