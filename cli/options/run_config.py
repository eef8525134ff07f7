"""Settings and options to one RunConfig."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from cli.options.assignment import describe_value, parse_assignment, refuse_key
from cli.options.backend_names import BACKENDS
from cli.options.recipe import RECIPE_OPTIONS
from cli.options.settings import Settings
from cli.options.without_effect import refuse_without_effect
from tsp.config.backbones import BACKBONES
from tsp.config.codec import from_dict, leaf_values, set_dotted, to_dict
from tsp.config.recipes import heads_of
from tsp.config.released import RELEASED
from tsp.config.run import RunConfig
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError

CHECKPOINT_KEYS = ("model.pretrained", "resume")
"""Keys that accept the name of a released checkpoint in place of its address."""

_OF_ITS_DATA = (
    "name", "method", "store.", "data.name", "data.root", "data.train", "data.valid", "model.heads", "model.gvf",
    "gpus", "resume", "start_epoch",
)  # fmt: skip

logger = logging.getLogger(__name__)


def build_config(
    settings: Settings,
    name: str | None,
    given: dict[str, Any],
    *,
    needs_store: bool = True,
    presets: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The complete configuration.

    Args: name, None for a placeholder; given, the values of ``dataset_options`` and ``recipe_options``;
        needs_store, False if nothing will be stored: a placeholder is used if no store is set; presets, values by
        dotted key that take precedence over settings, and options over them.
    Raises: ConfigError naming option or key.
    """
    from cli.options.store import NOWHERE, store_config
    from tsp.config.recipes import load_dataset, resolve

    wanted = {
        "model.pretrained": settings.pretrained,
        "data.workers": settings.workers,
        "gpus": settings.gpus if given["gpus"] is None else given["gpus"],
    }
    of_settings = leaf_values(RunConfig, settings.set, where="setting set: ")
    for key in of_settings:
        refuse_key(key, where=f"setting set: {key}")
    known = {key: value for key, value in wanted.items() if value is not None}
    typed = given_values(settings, given)
    overrides = {**of_settings, **known, **(presets or {}), **typed}
    for key in CHECKPOINT_KEYS:
        overrides |= _released_address(settings, key, overrides.get(key))
    has_store = settings.store is not None or BACKENDS[settings.backend].has_default_store
    dataset = load_dataset(given["dataset"])
    root = given["data_root"] or settings.data_of(dataset.name)
    config = resolve(
        dataset,
        given["method"],
        name="unnamed" if name is None else name,
        store=asdict(store_config(settings, None if needs_store or has_store else NOWHERE)),
        root=root,
        heads=given["heads"],
        gvf=given["gvf"],
        overrides=overrides,
    )
    refuse_without_effect(config, typed)
    return with_mirrored_weights(config, settings.models_url)


def with_mirrored_weights(config: RunConfig, mirror: str | None) -> RunConfig:
    """The configuration with the default initial weights from the mirror, if there is one, since pods do not have that
    setting."""
    published = BACKBONES[config.model.backbone].published
    if mirror is None or published is None or config.model.pretrained != "default":
        return config
    digest = config.model.pretrained_sha256 or published.sha256_prefix
    model = replace(config.model, pretrained=published.address(mirror), pretrained_sha256=digest)
    return replace(config, model=model)


def given_values(settings: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of recipe options and --set, by dotted key; --set takes precedence.

    Args: given, may lack options that a command does not have.
    Raises: ConfigError naming the key.
    """
    values = {
        option.key: given[option.parameter] for option in RECIPE_OPTIONS if given.get(option.parameter) is not None
    }
    for text in given["assignments"]:
        key, value = parse_assignment(text)
        logger.info("--set %s: %s", key, describe_value(value))
        values |= leaf_values(RunConfig, {key: value}, where="--set ")
    for key in CHECKPOINT_KEYS:
        values |= _released_address(settings, key, values.get(key))
    return values


def config_like(
    settings: Settings, name: str, given: dict[str, Any], like: RunConfig, *, store: StoreConfig
) -> RunConfig:
    """The configuration of an earlier run under another name, overridden by the given options.

    With --dataset the recipe values stay and the data set is another; else it is the run's own.
    Args: store, of the configuration: settings may name none, or another than the run's.
    Raises: ConfigError naming option or key.
    """
    if given["dataset"] is not None:
        chosen = {
            "method": given["method"] or like.method,
            "heads": given["heads"] or heads_of(like),
            "gvf": given["gvf"] or like.model.gvf,
            "gpus": like.gpus if given["gpus"] is None else given["gpus"],
        }
        config = build_config(settings, name, {**given, **chosen}, needs_store=False, presets=recipe_values(like))
        return replace(config, store=store)
    for option in ("method", "heads", "gvf"):
        if given[option] is not None:
            raise ConfigError(f"--{option} needs --dataset, which defines where the tables are")
    tree = {**to_dict(like), "name": name, "store": asdict(store)}
    typed = given_values(settings, given)
    changes = dict(typed)
    changes |= {"gpus": given["gpus"]} if given["gpus"] is not None else {}
    changes |= {"data.root": given["data_root"]} if given["data_root"] is not None else {}
    for key, value in changes.items():
        set_dotted(tree, key, value)
    config = from_dict(RunConfig, tree)
    refuse_without_effect(config, typed)
    return config


def recipe_values(config: RunConfig) -> dict[str, Any]:
    """The values of a configuration except name, store, data set and heads, by dotted key."""
    tree = to_dict(config)
    values = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            values.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            values[key] = value
    return {key: value for key, value in values.items() if not key.startswith(_OF_ITS_DATA) and value is not None}


def _released_address(settings: Settings, key: str, value: Any) -> dict[str, str]:
    """The address of a released checkpoint's name."""
    return {key: RELEASED[value].address(settings.models_url)} if str(value) in RELEASED else {}
