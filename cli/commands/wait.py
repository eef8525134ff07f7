"""``tspctl wait``."""

from __future__ import annotations

import sys

import click

from cli.options.numbers import SECONDS
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session
from cli.streams import echo


@click.command()
@run_argument
@click.option(
    "--timeout",
    "timeout_sec",
    type=SECONDS,
    metavar="SEC",
    help="Stop waiting after SEC, with exit code 101.",
)
@with_session
def wait(run: str, timeout_sec: float | None, session: Session) -> None:
    """Wait until a run ends; the exit code is its outcome.

    0 succeeded, 100 failed, 101 not finished (timeout, suspended), 102 no such run, 103 cancelled.
    """
    from cli.runs.outcome import outcome_code, wait_for_end

    state, reason = wait_for_end(session.find(run), timeout_sec=timeout_sec)
    if state == "timeout":
        echo(f"run {run} has not finished after {timeout_sec:g} s: {reason}", err=True)
    else:
        echo(f"run {run}: {state}" + (f": {reason}" if reason else ""), err=True)
    sys.exit(outcome_code(state))
