"""``tspctl exec``."""

from __future__ import annotations

import sys

import click

from cli.options.settings import Settings
from cli.options.shared import with_settings
from cli.runs.argument import run_argument


@click.command("exec", context_settings={"ignore_unknown_options": True})
@run_argument
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True, help="Beside which rank.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_settings
def execute(run: str, rank: int, command: tuple[str, ...], settings: Settings) -> None:
    """Run a command beside a rank of a running run.

    Write -- before the command.

    On a cluster inside the rank's pod; on this machine with the rank's environment.
    """
    from cli.runs.find import find_run

    found = find_run(settings, run)
    sys.exit(found.at_a_place().execute(found.name, rank, command))
