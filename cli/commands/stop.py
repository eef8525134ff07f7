"""``tspctl cancel`` and ``tspctl suspend``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from cli.backends.base import Backend
from cli.options.numbers import SECONDS
from cli.output import interruption_note
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session
from cli.streams import echo
from tsp.run.status import ENDED

grace_option = click.option(
    "--grace",
    "grace_sec",
    type=SECONDS,
    metavar="SEC",
    help="Time to save state and drain uploads before ranks are killed; default: 120; on a cluster, the chart value "
    "gracePeriodSeconds.",
)


@click.command()
@run_argument
@grace_option
@with_session
def cancel(run: str, grace_sec: float | None, session: Session) -> None:
    """Save a run's state and stop it for good.

    Returns when the state is saved, uploads are drained and all processes have ended.
    """
    with _stopping(run, session) as (backend, name):
        backend.cancel(name, grace_sec=grace_sec)
    echo(f"cancelled {run}", err=True)


@click.command()
@run_argument
@grace_option
@with_session
def suspend(run: str, grace_sec: float | None, session: Session) -> None:
    """Save a run's state and stop it until it is resumed.

    Returns when the state is saved, uploads are drained and all processes have ended.
    """
    with _stopping(run, session) as (backend, name):
        backend.suspend(name, grace_sec=grace_sec)
    echo(f"suspended {run}: continue it with 'tspctl resume {run}'", err=True)


@contextmanager
def _stopping(run: str, session: Session) -> Iterator[tuple[Backend, str]]:
    """The run's backend and its name there."""
    found = session.find(run)
    if found.status is None or found.status.state not in ENDED:
        echo(f"stopping {run}; its state is saved first", err=True)
    with interruption_note(f"{run} is still being stopped: see 'tspctl status {run}'"):
        yield found.require_backend(), found.name
