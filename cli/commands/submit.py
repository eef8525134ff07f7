"""``tspctl submit``: from options to a configuration, checks, start."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.locations import LOCATION
from cli.options.pods import by_option, pod_options, take_pod_options
from cli.options.recipe import recipe_options, submit_options
from cli.output import interruption_note, print_value
from cli.runs.argument import complete_runs
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from cli.backends.base import BackendOptions, Plan
    from cli.runs.earlier import WrittenRun
    from tsp.config.run import RunConfig

logger = logging.getLogger(__name__)


@click.command()
@submit_options
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Start from a configuration that --dry-run -o yaml printed; options override it.",
)
@click.option(
    "--like",
    metavar="RUN",
    shell_complete=complete_runs,
    help="Start from an earlier run's configuration; options override it.",
)
@click.option("--name", help="Name of the run; default: that of --file, or one made from recipe and time.")
@recipe_options
@click.option("--image", metavar="REF", help="Container image of the ranks.")
@click.option("--queue", metavar="Q", help="Kueue queue.")
@pod_options
@click.option(
    "--chart-value",
    "chart_values",
    multiple=True,
    metavar="KEY=VALUE",
    help="Chart value, as for Helm's --set.",
)
@click.option(
    "--chart-values",
    "chart_value_files",
    type=LOCATION,
    multiple=True,
    metavar="FILE",
    help="Values file of the chart.",
)
@click.option(
    "--dry-run",
    is_flag=False,
    flag_value="client",
    type=click.Choice(["client", "server"]),
    help="Print what would be submitted, or with -o the configuration; server: the API server validates it.",
)
@click.option("--follow", is_flag=True, help="Follow the logs; the exit code is the run's outcome.")
@click.option("-o", "--output", type=click.Choice(["name", "json", "yaml"]), help="Output format.")
@with_session
def submit(
    dry_run: str | None,
    follow: bool,
    output: str | None,
    name: str | None,
    file: Path | None,
    like: str | None,
    session: Session,
    **given: Any,
) -> None:
    """Start a training run.

    Values come from the recipe, settings files, TSPCTL_* variables, options and --set; later ones win.
    """
    from cli.runs.earlier import report_sizes, run_in_file

    if dry_run is not None and follow:
        raise click.UsageError("--follow and --dry-run are mutually exclusive: a dry run starts no run")
    if file is not None and like is not None:
        raise click.UsageError("--file and --like are mutually exclusive")
    options = _backend_options(session, given, on_server=dry_run == "server")
    backend = session.backend
    written = run_in_file(file) if file is not None else None
    config = backend.with_paths(_config(session, name, given, written, like, options.image), given["dataset"])
    if name is None and file is None:
        config = replace(config, name=default_name(session, config, look=dry_run is None))
    plan = backend.plan(config, options)
    if written is not None:
        report_sizes(written, plan.effective)
    if dry_run is not None:
        _show_dry_run(session, plan, output, on_server=dry_run == "server")
        return
    start(session, plan)
    if output in ("json", "yaml"):
        print_value(as_result(plan), output)
    else:
        echo(config.name)
    if follow:
        sys.exit(_follow(session, config.name))
    logger.info("follow it with 'tspctl logs -f %s'", config.name)


def _backend_options(session: Session, given: dict[str, Any], *, on_server: bool) -> BackendOptions:
    """Extract them from the given options, with the settings' defaults.

    Raises: ConfigError naming an option that the backend would ignore.
    """
    from cli.backends.base import BackendOptions

    pods = take_pod_options(given)
    session.backend.refuse_ignored(
        {
            **by_option(pods),
            "--image": given["image"],
            "--queue": given["queue"],
            "--chart-value": given["chart_values"],
            "--chart-values": given["chart_value_files"],
            "--dry-run=server": on_server,
        }
    )
    return BackendOptions(
        image=given.pop("image") or session.settings.image,
        queue=given.pop("queue") or session.settings.queue,
        chart_values=given.pop("chart_values"),
        chart_value_files=given.pop("chart_value_files"),
        pods=pods,
    )


def _config(
    session: Session,
    name: str | None,
    given: dict[str, Any],
    written: WrittenRun | None,
    like: str | None,
    image: str | None,
) -> RunConfig:
    """From a recipe, a file or an earlier run.

    Raises: ConfigError naming option or key.
    """
    from cli.options.run_config import build_config, config_like
    from cli.runs.earlier import earlier_run, report_changes, report_origins

    if written is None and like is None:
        for option in ("dataset", "method"):
            if given[option] is None:
                raise click.UsageError(f"Missing option '--{option}'")
        return build_config(session.settings, name, given)
    earlier = earlier_run(session, like) if like is not None else None
    source = earlier or written
    assert source is not None
    before = source.config
    store = session.store_config() if session.settings.store is not None else before.store
    config = config_like(
        session.settings, name or (before.name if written is not None else "unnamed"), given, before, store=store
    )
    report_changes(before, config, f"--file {written.path}" if written is not None else f"--like {like}")
    if earlier is not None:
        report_origins(session, earlier, config, image=image)
    return config


def default_name(session: Session, config: RunConfig, *, look: bool) -> str:
    """The first default name; with ``look`` the first that is taken neither in the store nor in a backend."""
    from datetime import datetime

    from cli.options.run_names import default_names

    names = default_names(config, datetime.now())
    if not look:
        return next(names)

    def is_taken(name: str) -> bool:
        return any(b.holds(name) for b in session.backends) or session.stored_run(config.store, name).exists()

    return next(name for name in names if not is_taken(name))


def start(session: Session, plan: Plan) -> None:
    """Check and start a run, and report its batch and learning rates."""
    from cli.backends.checks import run_checks
    from tsp.errors import ConfigError

    backend, config = session.backend, plan.config
    run_checks(backend.checks(plan))
    if session.stored_run(config.store, config.name).exists():
        raise ConfigError(
            f"{config.store.uri} already has a run {config.name!r}, and runs are never overwritten: choose another "
            f"--name{_what_else(session, config.name)}"
        )
    for line in plan.explanation:
        logger.info("%s", line)
    with interruption_note(f"run {config.name} may have started: check with 'tspctl list'"):
        backend.submit(plan)
    logger.info("submitted %s (%s, results in %s)", config.name, backend.name, config.store.uri)


def _what_else(session: Session, name: str) -> str:
    """What else the state of the existing run allows."""
    from cli.runs.outcome import NOTHING_WILL_CHANGE, RESUMABLE, final_state

    state, _ = final_state(session.find(name))
    if state in RESUMABLE:
        return f", resume it ('tspctl resume {name}') or delete it ('tspctl delete {name}')"
    if state in NOTHING_WILL_CHANGE:
        return f", or delete it ('tspctl delete {name}')"
    return f"; it is {state}: 'tspctl logs -f {name}' follows it, 'tspctl cancel {name}' stops it"


def _show_dry_run(session: Session, plan: Plan, output: str | None, *, on_server: bool) -> None:
    for line in plan.explanation:
        logger.info("%s", line)
    rendered = session.backend.render(plan, on_server=on_server) if on_server or output in (None, "name") else ""
    if output in ("json", "yaml"):
        print_value(as_result(plan), output)
    else:
        echo(rendered, nl=False)


def as_result(plan: Plan) -> dict[str, Any]:
    """Configuration and effective sizes as plain values."""
    from tsp.config.codec import to_dict

    effective = asdict(plan.effective) if plan.effective else None
    return {"name": plan.config.name, "effective": effective, "config": to_dict(plan.config)}


def _follow(session: Session, name: str) -> int:
    """Follow with the logs on stderr: stdout has the name."""
    from cli.backends.base import LogQuery
    from cli.runs.logs import follow_run
    from cli.runs.outcome import through_outages

    return follow_run(
        through_outages(lambda: session.find(name)), LogQuery(follow=True), timestamps=False, to_stderr=True
    )
