"""Commands that wait for a run or change its fate: wait, cancel, suspend, resume, delete, exec."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cli.options import run_argument, with_settings

if TYPE_CHECKING:
    from cli.settings import Settings

grace_option = click.option(
    "--grace",
    "grace_sec",
    type=click.FloatRange(0),
    metavar="SEC",
    help="Time to save state and drain uploads before the ranks are killed; "
    "default: 120, on a cluster what the pods have (gracePeriodSeconds of the chart).",
)


@click.command()
@run_argument
@click.option("--timeout", "timeout_sec", type=click.FloatRange(0), metavar="SEC", help="Give up after this (101).")
@with_settings
def wait(run: str, timeout_sec: float | None, settings: Settings) -> None:
    """Wait until a run has ended; the exit code is its outcome.

    0 succeeded, 100 failed, 101 not finished (timeout, suspended), 102 no such run, 103 cancelled.
    """
    from cli.outcome import exit_code_of, wait_for_end
    from cli.runs import find_run

    state, reason = wait_for_end(find_run(settings, run), timeout_sec=timeout_sec)
    if state == "timeout":
        click.echo(f"run {run} has not finished after {timeout_sec:g} s: {reason}", err=True)
    else:
        click.echo(f"run {run}: {state}" + (f": {reason}" if reason else ""), err=True)
    sys.exit(exit_code_of(state))


@click.command()
@run_argument
@grace_option
@with_settings
def cancel(run: str, grace_sec: float | None, settings: Settings) -> None:
    """Stop a run for good, its state saved.

    Returns when the state is saved, uploads are drained and all processes have ended.
    """
    from cli.runs import find_run

    found = find_run(settings, run)
    click.echo(f"stopping {run}, its state is saved first", err=True)
    found.at_a_place().cancel(found.name, grace_sec=grace_sec)
    click.echo(f"cancelled {run}", err=True)


@click.command()
@run_argument
@grace_option
@with_settings
def suspend(run: str, grace_sec: float | None, settings: Settings) -> None:
    """Stop a run so that it can go on later.

    'tspctl resume' goes on with it.
    """
    from cli.runs import find_run

    found = find_run(settings, run)
    click.echo(f"stopping {run}, its state is saved first", err=True)
    found.at_a_place().suspend(found.name, grace_sec=grace_sec)
    click.echo(f"suspended {run}: go on with 'tspctl resume {run}'", err=True)


@click.command()
@run_argument
@with_settings
def resume(run: str, settings: Settings) -> None:
    """Go on with a run from its newest saved state.

    For runs that were suspended or cancelled, that failed or crashed.
    """
    from cli.outcome import final_state
    from cli.runs import find_run
    from tsp.errors import ConfigError, NoSuchRunError

    found = find_run(settings, run)
    state, _ = final_state(found)
    if state in ("succeeded", "pending", "running", "restarting"):
        raise ConfigError(f"run {run} is {state}: there is nothing to resume")
    try:
        config = None if found.is_job else found.run.config()
    except NoSuchRunError:
        # It was stopped before any rank could write it.
        config = None
    found.at_a_place().resume(found.name, config)
    click.echo(f"resumed {run}: follow it with 'tspctl logs -f {run}'", err=True)


@click.command()
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-store", is_flag=True, help="Keep its checkpoints, results and logs.")
@with_settings
def delete(run: str, yes: bool, keep_store: bool, settings: Settings) -> None:
    """Remove a run that has ended, with all it stored."""
    from cli.outcome import final_state
    from cli.runs import find_run
    from tsp.errors import ConfigError

    found = find_run(settings, run)
    backend = found.at_a_place()
    state, _ = final_state(found)
    if state in ("pending", "running", "restarting"):
        raise ConfigError(f"run {run} is {state}: stop it first with 'tspctl cancel {run}'")
    keep_store = keep_store or found.is_job
    what = "what this place remembers of it" if keep_store else f"all of {found.run.store.uri}/{found.name}"
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"this removes {what}: say --yes, there is no terminal to ask on")
        click.confirm(f"remove {what}?", abort=True, err=True)
    backend.delete(found.name)
    if not keep_store:
        found.run.delete()
    click.echo(f"deleted {run}", err=True)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@run_argument
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True, help="Beside which rank.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_settings
def execute(run: str, rank: int, command: tuple[str, ...], settings: Settings) -> None:
    """Run a command beside a rank of a running run.

    Write -- before the command.

    On a cluster inside the rank's pod; on this machine with the rank's environment.
    """
    from cli.runs import find_run

    found = find_run(settings, run)
    sys.exit(found.at_a_place().execute(found.name, rank, command))
