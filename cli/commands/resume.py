"""``tspctl resume``."""

from __future__ import annotations

import click

from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session
from cli.streams import echo


@click.command()
@run_argument
@click.option("--force", is_flag=True, help="Take over a run that another machine or namespace may still be training.")
@with_session
def resume(run: str, force: bool, session: Session) -> None:
    """Continue a run from its newest saved state.

    The run must be suspended, cancelled, failed or crashed.
    """
    from cli.runs.outcome import final_state
    from tsp.errors import ConfigError, NoSuchRunError
    from tsp.run.status import ACTIVE

    found = session.find(run)
    state, _ = final_state(found)
    if state in ACTIVE | {"succeeded"}:
        raise ConfigError(f"run {run} is {state}: there is nothing to resume")
    try:
        config = None if found.is_job else found.run.config()
    except NoSuchRunError:
        # The run was stopped before any rank wrote it.
        config = None
    found.require_backend().resume(found.name, config, force=force)
    echo(f"resumed {run}: follow it with 'tspctl logs -f {run}'", err=True)
