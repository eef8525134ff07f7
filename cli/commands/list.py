"""``tspctl list``."""

from __future__ import annotations

import click

from cli.options.settings import Settings
from cli.options.shared import with_settings
from cli.output import FORMATS, format_option, print_rows

LIST_COLUMNS = ("name", "state", "progress", "best", "gpus", "kind", "created", "reason")


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Also runs that only the store knows.")
@format_option(*FORMATS, "name")
@with_settings
def list_command(everything: bool, output: str, settings: Settings) -> None:
    """List runs, newest first.

    Progress and best epoch are read from the store; on a cluster for the runs at work and the newest others.
    """
    from cli.runs.reports import collect

    rows = [report.as_row() for report in collect(settings, everything=everything or settings.backend == "local")]
    if output == "table" and not rows:
        click.echo("no runs", err=True)
        return
    print_rows(rows, output, columns=LIST_COLUMNS)
