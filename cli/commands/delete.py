"""``tspctl delete``."""

from __future__ import annotations

import sys

import click

from cli.output import interruption_note
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session
from cli.streams import echo


@click.command()
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--force", is_flag=True, help="Also delete a run that is unknown to all backends but was written recently."
)
@click.option("--keep-store", is_flag=True, help="Keep its checkpoints, results and logs in the store.")
@with_session
def delete(run: str, yes: bool, force: bool, keep_store: bool, session: Session) -> None:
    """Delete a run that has ended, and its files in the store."""
    from cli.runs.outcome import final_state
    from tsp.errors import ConfigError
    from tsp.run.ownership import QUIET_SEC, owner_of
    from tsp.run.status import ACTIVE

    found = session.find(run)
    backend = found.require_backend()
    state, _ = final_state(found)
    if state in ACTIVE:
        raise ConfigError(f"run {run} is {state}: stop it first with 'tspctl cancel {run}'")
    # If the backend does not know the run's store, the store that is set may hold another run of that name.
    keep_store = keep_store or found.is_job or (found.status is not None and found.status.store is None)
    owner = None if keep_store or found.status is None else found.status.owner
    if owner is not None and not force and (holder := owner_of(found.run)) not in (None, owner):
        keep_store = True
        echo(f"{found.run.address()} is kept: it belongs to {holder}, which trained the run last", err=True)
    if not keep_store and not force and state == "unknown":
        written_ago_sec = found.run.written_ago_sec()
        if written_ago_sec is not None and written_ago_sec < QUIET_SEC:
            raise ConfigError(
                f"run {run} is unknown here, but wrote to {found.run.store.uri} {written_ago_sec:.0f} s ago by the "
                "store's clock: stop it where it is running, or use --force"
            )
    what = f"everything in {found.run.store.uri}/{found.name}"
    if keep_store:
        what = f"run {run} from the {backend.name} backend, not from its store"
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"this deletes {what}: confirm with --yes, since there is no terminal for the question")
        click.confirm(f"delete {what}?", abort=True, err=True)
    with interruption_note(f"{run} is partly deleted: 'tspctl delete {run}' deletes the rest"):
        backend.delete(found.name)
        if not keep_store:
            found.run.delete()
    echo(f"deleted {run}", err=True)
    if found.run.store.keeps_versions:
        echo(
            f"the bucket of {found.run.store.uri} is versioned: old versions of the deleted objects remain, "
            "hidden, until you remove them with another tool or the bucket's lifecycle rules expire them",
            err=True,
        )
