"""``tspctl delete``."""

from __future__ import annotations

import sys

import click

from cli.output import interruption_note
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session

MAY_BE_WRITING_SEC = 600
"""Runs write progress every ten seconds; a validation or a save may keep one quiet for some minutes."""


@click.command()
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also delete a run that nobody knows of but that wrote a moment ago.")
@click.option("--keep-store", is_flag=True, help="Keep its checkpoints, results and logs.")
@with_session
def delete(run: str, yes: bool, force: bool, keep_store: bool, session: Session) -> None:
    """Remove a run that has ended, with all it stored."""
    from cli.runs.outcome import final_state
    from tsp.errors import ConfigError

    found = session.find(run)
    backend = found.require_backend()
    state, _ = final_state(found)
    if state in ("pending", "running", "restarting"):
        raise ConfigError(f"run {run} is {state}: stop it first with 'tspctl cancel {run}'")
    # What the backend knows, but not where it stores, may be another run of that name in the store that is set.
    keep_store = keep_store or found.is_job or (found.status is not None and found.status.store is None)
    if not keep_store and not force and state == "unknown":
        written_ago_sec = found.run.written_ago_sec()
        if written_ago_sec is not None and written_ago_sec < MAY_BE_WRITING_SEC:
            raise ConfigError(
                f"run {run} is unknown here, but wrote to {found.run.store.uri} {written_ago_sec:.0f} s ago by the "
                f"store's clock: stop it where it runs, or say --force"
            )
    what = f"all of {found.run.store.uri}/{found.name}"
    if keep_store:
        what = f"what the {backend.name} backend remembers of it"
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"this removes {what}: say --yes, there is no terminal to ask on")
        click.confirm(f"remove {what}?", abort=True, err=True)
    with interruption_note(f"{run} is partly deleted: 'tspctl delete {run}' goes on"):
        backend.delete(found.name)
        if not keep_store:
            found.run.delete()
    click.echo(f"deleted {run}", err=True)
