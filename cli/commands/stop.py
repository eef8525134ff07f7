"""Commands that wait for a run or change its fate: wait, cancel, suspend, resume, delete, exec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.options.shared import with_settings
from cli.runs.argument import run_argument

if TYPE_CHECKING:
    from cli.options.settings import Settings

grace_option = click.option(
    "--grace",
    "grace_sec",
    type=click.FloatRange(0),
    metavar="SEC",
    help="Time to save state and drain uploads before the ranks are killed; "
    "default: 120, on a cluster what the pods have (gracePeriodSeconds of the chart).",
)


@click.command()
@run_argument
@grace_option
@with_settings
def cancel(run: str, grace_sec: float | None, settings: Settings) -> None:
    """Stop a run for good, its state saved.

    Returns when the state is saved, uploads are drained and all processes have ended.
    """
    from cli.runs.find import find_run

    found = find_run(settings, run)
    click.echo(f"stopping {run}, its state is saved first", err=True)
    found.at_a_place().cancel(found.name, grace_sec=grace_sec)
    click.echo(f"cancelled {run}", err=True)


@click.command()
@run_argument
@grace_option
@with_settings
def suspend(run: str, grace_sec: float | None, settings: Settings) -> None:
    """Stop a run so that it can go on later.

    'tspctl resume' goes on with it.
    """
    from cli.runs.find import find_run

    found = find_run(settings, run)
    click.echo(f"stopping {run}, its state is saved first", err=True)
    found.at_a_place().suspend(found.name, grace_sec=grace_sec)
    click.echo(f"suspended {run}: go on with 'tspctl resume {run}'", err=True)
