"""``tspctl submit``: options to one configuration, checks, start."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from cli.options import with_settings
from cli.output import print_value
from cli.recipe_options import LOCAL_PATHS, RECIPE_OPTIONS, dataset_options, recipe_options

if TYPE_CHECKING:
    from cli.backend import Backend, Plan
    from cli.settings import Settings
    from tsp.run.config import RunConfig

logger = logging.getLogger(__name__)


@click.command()
@dataset_options
@click.option("--name", help="Name of the run; default: made from recipe and time.")
@recipe_options
@click.option("--image", metavar="REF", help="Container image of the ranks.")
@click.option("--queue", metavar="Q", help="Kueue queue.")
@click.option("--chart-value", "chart_values", multiple=True, metavar="KEY=VALUE", help="A value of the chart.")
@click.option("--chart-values", "chart_value_files", multiple=True, metavar="FILE", help="A values file of the chart.")
@click.option(
    "--dry-run",
    is_flag=False,
    flag_value="client",
    type=click.Choice(["client", "server"]),
    help="Show what would be sent and send nothing; with -o the configuration; server: let the API server judge it.",
)
@click.option("--follow", is_flag=True, help="Show the logs until the end; exit with the run's outcome.")
@click.option("-o", "--output", type=click.Choice(["name", "json", "yaml"]), help="Format of the result.")
@with_settings
def submit(
    dry_run: str | None, follow: bool, output: str | None, name: str | None, settings: Settings, **given: Any
) -> None:
    """Start a training run.

    Values come from the recipe, the settings files, TSPCTL_* variables and options, in rising order; --set wins.
    """
    from cli.backend import PlaceOptions, open_backend

    place = PlaceOptions(
        image=given.pop("image") or settings.image,
        queue=given.pop("queue") or settings.queue,
        chart_values=given.pop("chart_values"),
        chart_value_files=given.pop("chart_value_files"),
    )
    config = build_config(settings, name, given)
    if name is None:
        config = replace(config, name=default_name(config, look=dry_run is None))
    backend = open_backend(settings)
    if backend.name == "kubernetes":
        _refuse_paths_of_this_machine(config, given["dataset"])
    plan = backend.plan(config, place)
    if dry_run is not None:
        _show_dry_run(backend, plan, output, on_server=dry_run == "server")
        return
    start(backend, plan)
    if output in ("json", "yaml"):
        print_value(as_result(plan), output)
    else:
        click.echo(config.name)
    if follow:
        sys.exit(_follow(settings, config.name))
    logger.info("follow it with 'tspctl logs -f %s'", config.name)


def build_config(settings: Settings, name: str | None, given: dict[str, Any]) -> RunConfig:
    """The whole configuration.

    Args: name, None for one that is replaced later; given, the values of ``dataset_options`` and ``recipe_options``.
    Raises: ConfigError naming option or key.
    """
    from cli.runs import store_config
    from tsp.run.recipes import load_dataset, parse_assignment, resolve

    wanted = {
        "model.pretrained": settings.pretrained,
        "data.workers": settings.workers,
        "gpus": settings.gpus if given["gpus"] is None else given["gpus"],
    }
    options = {option.key: given[option.parameter] for option in RECIPE_OPTIONS if given[option.parameter] is not None}
    overrides = {**settings.set, **{key: value for key, value in wanted.items() if value is not None}, **options}
    overrides.update(parse_assignment(text) for text in given["assignments"])
    dataset = load_dataset(given["dataset"])
    root = given["data_root"] or settings.datasets.get(dataset.name) or _data_of(settings, dataset.name)
    config = resolve(
        dataset,
        given["method"],
        name="unnamed" if name is None else name,
        store=asdict(store_config(settings)),
        root=root,
        heads=given["heads"],
        gvf=given["gvf"],
        overrides=overrides,
    )
    if settings.backend == "local":
        config = _with_absolute_paths(config)
    return config


def _refuse_paths_of_this_machine(config: RunConfig, dataset: str) -> None:
    from cli.pod_paths import refuse_paths_beside, refuse_relative_paths
    from tsp.run.recipes import load_dataset

    refuse_paths_beside(config, load_dataset(dataset), where=dataset)
    refuse_relative_paths(config)


def _data_of(settings: Settings, dataset: str) -> str | None:
    return settings.data.replace("{dataset}", dataset) if settings.data else None


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    from cli.runs import absolute_unless_uri
    from tsp.run.config import RunConfig, from_dict, to_dict
    from tsp.run.recipes import set_dotted

    tree = to_dict(config)
    for key in LOCAL_PATHS:
        section, _, last = key.rpartition(".")
        value = (tree[section] if section else tree)[last]
        if value is not None and value not in ("default", "none"):
            set_dotted(tree, key, absolute_unless_uri(value))
    return from_dict(RunConfig, tree)


def default_name(config: RunConfig, *, look: bool) -> str:
    """The first default name; with ``look`` the first that neither the store nor this machine has."""
    from datetime import datetime

    from cli.local_state import local_run
    from cli.naming import default_names
    from tsp.run.run import Run
    from tsp.run.store import open_store

    names = default_names(config, datetime.now())
    if not look:
        return next(names)
    store = open_store(config.store)
    return next(name for name in names if not local_run(name).exists() and not Run(store, name).exists())


def start(backend: Backend, plan: Plan) -> None:
    """Check and start a run, saying what it will train with."""
    from tsp.errors import ConfigError
    from tsp.run.run import Run
    from tsp.run.store import open_store

    config = plan.config
    backend.preflight(plan)
    if Run(open_store(config.store), config.name).exists():
        raise ConfigError(
            f"{config.store.uri} has a run {config.name!r} already, which is never overwritten: choose another --name, "
            f"go on with it ('tspctl resume {config.name}') or remove it ('tspctl delete {config.name}')"
        )
    for line in plan.explanation:
        logger.info("%s", line)
    backend.submit(plan)
    logger.info("submitted %s (%s, results in %s)", config.name, backend.name, config.store.uri)


def _show_dry_run(backend: Backend, plan: Plan, output: str | None, *, on_server: bool) -> None:
    for line in plan.explanation:
        logger.info("%s", line)
    rendered = backend.render(plan, on_server=on_server) if on_server or output in (None, "name") else ""
    if output in ("json", "yaml"):
        print_value(as_result(plan), output)
    else:
        click.echo(rendered, nl=False)


def as_result(plan: Plan) -> dict[str, Any]:
    """Configuration and effective sizes as plain data."""
    from tsp.run.config import to_dict

    effective = asdict(plan.effective) if plan.effective else None
    return {"name": plan.config.name, "effective": effective, "config": to_dict(plan.config)}


def _follow(settings: Settings, name: str) -> int:
    """Logs go to stderr: stdout has the result."""
    from cli.backend import LogQuery
    from cli.logs import follow_run
    from cli.runs import find_run

    return follow_run(settings, find_run(settings, name), LogQuery(follow=True), timestamps=False, to_stderr=True)
