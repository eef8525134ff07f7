"""Settings and options to one RunConfig."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from cli.options.assignment import describe_value, parse_assignment, refuse_key
from cli.options.recipe import RECIPE_OPTIONS
from cli.options.settings import Settings
from tsp.config.released import RELEASED
from tsp.config.run import RunConfig

CHECKPOINT_KEYS = ("model.pretrained", "resume")
"""Keys that accept the name of a released checkpoint in place of its address."""

logger = logging.getLogger(__name__)


def build_config(settings: Settings, name: str | None, given: dict[str, Any], *, needs_store: bool = True) -> RunConfig:
    """The complete configuration.

    Args: name, None for a placeholder; given, the values of ``dataset_options`` and ``recipe_options``;
        needs_store, False if nothing will be stored: a placeholder is used if no store is set.
    Raises: ConfigError naming option or key.
    """
    from cli.options.store import NOWHERE, store_config
    from tsp.config.recipes import load_dataset, resolve

    wanted = {
        "model.pretrained": settings.pretrained,
        "data.workers": settings.workers,
        "gpus": settings.gpus if given["gpus"] is None else given["gpus"],
    }
    options = {option.key: given[option.parameter] for option in RECIPE_OPTIONS if given[option.parameter] is not None}
    for key in settings.set:
        refuse_key(key, where=f"setting set: {key}")
    overrides = {**settings.set, **{key: value for key, value in wanted.items() if value is not None}, **options}
    for text in given["assignments"]:
        key, value = parse_assignment(text)
        logger.info("--set %s: %s", key, describe_value(value))
        overrides[key] = value
    for key in CHECKPOINT_KEYS:
        if str(overrides.get(key)) in RELEASED:
            overrides[key] = RELEASED[overrides[key]].address(settings.models_url)
    has_store = settings.store is not None or settings.backend == "local"
    dataset = load_dataset(given["dataset"])
    root = given["data_root"] or settings.datasets.get(dataset.name) or _data_of(settings, dataset.name)
    return resolve(
        dataset,
        given["method"],
        name="unnamed" if name is None else name,
        store=asdict(store_config(settings, None if needs_store or has_store else NOWHERE)),
        root=root,
        heads=given["heads"],
        gvf=given["gvf"],
        overrides=overrides,
    )


def _data_of(settings: Settings, dataset: str) -> str | None:
    return settings.data.replace("{dataset}", dataset) if settings.data else None
