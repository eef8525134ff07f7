"""``tspctl list``."""

from __future__ import annotations

import click

from cli.output import FORMATS, format_option, print_rows
from cli.runs.session import Session, with_session
from cli.streams import echo

FIRST_TO_GO = ("kind", "created", "gpus", "best", "progress", "reason", "state")
"""Columns in the order in which a narrow terminal leaves them out."""
LIST_COLUMNS = ("name", "state", "progress", "best", "gpus", "kind", "created", "reason")


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Include runs known only to the store.")
@format_option(*FORMATS, "name")
@with_session
def list_command(everything: bool, output: str, session: Session) -> None:
    """List runs, newest first.

    Progress and best epoch come from the store.
    """
    from cli.runs import summaries

    if output == "name":
        for name in summaries.names(session, everything=everything):
            echo(name)
        return
    found = summaries.collect(session, everything=everything, briefly=output == "table")
    rows = [summary.as_row() for summary in found]
    if output == "table" and not rows:
        echo("no runs", err=True)
        return
    print_rows(rows, output, columns=LIST_COLUMNS, first_to_go=FIRST_TO_GO)
