"""``tspctl resume``."""

from __future__ import annotations

import click

from cli.options.settings import Settings
from cli.options.shared import with_settings
from cli.runs.argument import run_argument


@click.command()
@run_argument
@with_settings
def resume(run: str, settings: Settings) -> None:
    """Go on with a run from its newest saved state.

    For runs that were suspended or cancelled, that failed or crashed.
    """
    from cli.runs.find import find_run
    from cli.runs.outcome import final_state
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
