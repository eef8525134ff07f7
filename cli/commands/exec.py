"""``tspctl exec``."""

from __future__ import annotations

import sys

import click

from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session


@click.command("exec", context_settings={"ignore_unknown_options": True})
@run_argument
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True, help="The rank.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_session
def execute(run: str, rank: int, command: tuple[str, ...], session: Session) -> None:
    """Run a command in the environment of a rank.

    Write -- before the command. On a cluster it runs inside the rank's pod.
    """
    found = session.find(run)
    sys.exit(found.require_backend().execute(found.name, rank, command))
