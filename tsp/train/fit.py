"""Checks that a checkpoint's heads and encoder match a configuration; if not, names the option to give."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Size, Tensor

from tsp.config.run import REGION_COLUMN, HeadConfig, RunConfig
from tsp.errors import ConfigError, DataError
from tsp.model.backbone import FEATURE_SIZE
from tsp.model.trained_clips import other_settings, trained_clips
from tsp.model.weights import recognise, training_args

logger = logging.getLogger(__name__)

_SAME_MAP = "give the label map that it was trained with"
NO_HEADS = "evaluate needs a checkpoint of a TSP or TAC run"


def model_state(content: Mapping[str, Any], *, where: str) -> dict[str, Tensor]:
    """All weights of a checkpoint, heads included.

    Raises: ConfigError if it has only an encoder.
    """
    state = content.get("model", content)
    if not isinstance(state, Mapping):
        raise ConfigError(f"{where} contains no weights: {NO_HEADS}")
    state = {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    if not any(name.startswith("features.") for name in state):
        raise ConfigError(
            f"{where} contains initial weights of an encoder, which was not trained with any of these heads: {NO_HEADS}"
        )
    if not _head_shapes(state):
        raise ConfigError(f"{where} contains an encoder without heads: {NO_HEADS}")
    return state


def refuse_misfit(
    config: RunConfig, content: Mapping[str, Any], labels: Sequence[Sequence[str]], *, where: str
) -> None:
    """Refuse a checkpoint that was trained for other heads, classes or GVF, or with another encoder.

    Args: labels, class names of each head of the configuration.
    Raises: ConfigError naming the option to give; DataError for a label map of other classes.
    """
    state = model_state(content, where=where)
    backbone = recognise(content, where=where)
    if backbone != config.model.backbone:
        raise ConfigError(f"{where} is a {backbone}, not a {config.model.backbone}: give --backbone {backbone}")
    shapes = _head_shapes(state)
    if len(shapes) != len(config.model.heads):
        columns = " and ".join(head.label_column for head in config.model.heads)
        advice = "--method tac, or --heads region" if len(shapes) == 1 else "--method tsp"
        raise ConfigError(f"{where} has {_number(len(shapes))}, but the evaluation needs {columns}: give {advice}")
    args = training_args(content)
    _refuse_other_columns(config, args, where)
    _refuse_other_gvf(config, shapes, args, where)
    _refuse_other_classes(config, shapes, labels, args, where)


def _head_shapes(state: Mapping[str, Tensor]) -> list[Size]:
    """Weights of each head, [classes, inputs]."""
    return [state[f"{name}.weight"].shape for name in ("fc", "fc1", "fc2") if f"{name}.weight" in state]


def _number(num_heads: int) -> str:
    return "one head" if num_heads == 1 else f"{num_heads} heads"


def _refuse_other_columns(config: RunConfig, args: Mapping[str, Any], where: str) -> None:
    trained = args.get("label_columns")
    wanted = [head.label_column for head in config.model.heads]
    if isinstance(trained, list) and trained != wanted:
        heads = "all" if len(trained) > 1 else "region" if trained == [REGION_COLUMN] else "action"
        raise ConfigError(f"{where} was trained on {' and '.join(map(str, trained))}: give --heads {heads}")


def _refuse_other_gvf(config: RunConfig, shapes: Sequence[Size], args: Mapping[str, Any], where: str) -> None:
    gvf = config.model.gvf
    trained_with_it = any(shape[1] > FEATURE_SIZE for shape in shapes)
    if trained_with_it and gvf == "none":
        raise ConfigError(f"{where} was trained with global video features: give --gvf max or --gvf avg")
    if not trained_with_it and gvf != "none":
        raise ConfigError(f"{where} was trained without global video features: give --gvf none")
    file = Path(str(args.get("global_video_features") or args.get("train_gvf") or "")).name
    other = {"max": "avg", "avg": "max"}.get(gvf)
    if other is not None and f"{other}_gvf" in file:
        raise ConfigError(f"{where} was trained with the global video features {file}: give --gvf {other}")


def _refuse_other_classes(
    config: RunConfig,
    shapes: Sequence[Size],
    labels: Sequence[Sequence[str]],
    args: Mapping[str, Any],
    where: str,
) -> None:
    trained = args.get("tspctl_labels") or [None] * len(shapes)
    for head, shape, names, trained_names in zip(config.model.heads, shapes, labels, trained, strict=True):
        if shape[0] != len(names):
            raise DataError(
                f"{where} was trained on {shape[0]} classes of {head.label_column}, but the label map {head.labels} "
                f"has {len(names)}: give the --dataset, or the label map, that it was trained with"
            )
        if trained_names is not None and list(trained_names) != list(names):
            index = next(i for i, (old, new) in enumerate(zip(trained_names, names, strict=True)) if old != new)
            raise DataError(f"{_other_class(head, index, trained_names, names, where)}: {_SAME_MAP}")


def refuse_moved_classes(
    config: RunConfig, labels: Sequence[Sequence[str]], content: Mapping[str, Any], where: str
) -> None:
    """Refuse to go on training a checkpoint whose classes have other numbers now; warn if some only have other names.

    Args: labels, class names of each head of the configuration.
    Raises: DataError.
    """
    args = training_args(content)
    trained = dict(zip(args.get("label_columns") or (), args.get("tspctl_labels") or (), strict=False))
    for head, names in zip(config.model.heads, labels, strict=True):
        before = trained.get(head.label_column, names)
        others = [index for index, (old, new) in enumerate(zip(before, names, strict=False)) if old != new]
        moved = [index for index in others if names[index] in before or before[index] in names]
        if moved:
            raise DataError(f"{_other_class(head, moved[0], before, names, where)}: {_SAME_MAP}")
        if others:
            logger.warning("%s; its weights are kept", _other_class(head, others[0], before, names, where))


def warn_of_other_clips(config: RunConfig, content: Mapping[str, Any], *, where: str) -> None:
    """Name the settings of clips that a checkpoint was trained with if the configuration has others."""
    trained = trained_clips(content)
    if trained is not None and (others := other_settings(config.clips, trained)):
        logger.warning("%s was trained with %s", where, ", ".join(others))


def _other_class(head: HeadConfig, index: int, before: Sequence[str], names: Sequence[str], where: str) -> str:
    return (
        f"class {index} of {head.label_column} was {before[index]!r} when {where} was trained, but is {names[index]!r} "
        f"in the label map {head.labels}"
    )
