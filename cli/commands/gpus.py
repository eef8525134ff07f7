"""``tspctl gpus``."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.output import FORMATS, format_option, print_rows
from cli.runs.session import Session, with_session
from cli.streams import echo

COLUMNS = ("node", "gpu", "memory", "driver", "total", "free", "held_by")
FIRST_TO_GO = ("driver", "memory", "gpu")
"""Columns in the order in which a narrow terminal leaves them out."""


@click.command("gpus")
@format_option(*FORMATS)
@with_session
def gpus(output: str, session: Session) -> None:
    """List GPUs by node, and which runs use them.

    Kind, memory, driver, how many are free, and which runs use the others. On a cluster it needs permission to list
    nodes. Without permission to list pods of other namespaces, their GPUs count as free.
    """
    rows = [asdict(item) for item in session.backend.gpus()]
    if output == "table":
        if not rows:
            echo("no GPUs", err=True)
            return
        for row in rows:
            row["held_by"] = ", ".join(f"{who} ({count})" for who, count in row["held_by"].items()) or None
    print_rows(rows, output, columns=COLUMNS, first_to_go=FIRST_TO_GO)
