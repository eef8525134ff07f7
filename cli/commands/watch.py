"""``tspctl watch``."""

from __future__ import annotations

import os
import sys

import click

from cli.options.numbers import REFRESH_SECONDS
from cli.runs.session import Session, with_session


@click.command()
@click.option("--all", "everything", is_flag=True, help="Include runs known only to the store.")
@click.option("--every", "every_sec", type=REFRESH_SECONDS, default=5.0, show_default=True, metavar="SEC",
              help="Seconds between refreshes.")  # fmt: skip
@with_session
def watch(everything: bool, every_sec: float, session: Session) -> None:
    """Watch runs on a live screen.

    Keys: s status, l logs, c cancel (asks first), r refresh, q quit.
    """
    if not _is_terminal():
        raise click.UsageError("watch needs a terminal; use 'tspctl list -o json' in scripts")
    from cli.runs import summaries
    from cli.signals import ends_itself
    from cli.watch.app import Watch

    app = Watch(
        lambda: summaries.collect(session, everything=everything), session.shared_options, every_sec=every_sec
    )  # fmt: skip
    with ends_itself(app.end):
        app.run()
    if app.is_reading:
        # Otherwise the exit would wait for its threads, until the store's own deadlines.
        os._exit(app.return_code or 0)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
