"""From settings and options to one RunConfig."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cli.options.recipe import RECIPE_OPTIONS
from cli.options.settings import Settings
from tsp.config.run import RunConfig


def build_config(settings: Settings, name: str | None, given: dict[str, Any]) -> RunConfig:
    """The whole configuration.

    Args: name, None for one that is replaced later; given, the values of ``dataset_options`` and ``recipe_options``.
    Raises: ConfigError naming option or key.
    """
    from cli.options.store import store_config
    from tsp.config.recipes import load_dataset, parse_assignment, resolve

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
    return resolve(
        dataset,
        given["method"],
        name="unnamed" if name is None else name,
        store=asdict(store_config(settings)),
        root=root,
        heads=given["heads"],
        gvf=given["gvf"],
        overrides=overrides,
    )


def _data_of(settings: Settings, dataset: str) -> str | None:
    return settings.data.replace("{dataset}", dataset) if settings.data else None
