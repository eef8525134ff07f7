"""Resolves a data set, a method and options to the complete configuration of a run.

In rising precedence: the defaults of ``config``, the method (heads, GVF), the data set's own recipe, options. A data
set is a YAML file; the shipped ones are in ``tsp/config/datasets`` and have the format of a user's own.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from tsp.config.backbones import DEFAULT_BACKBONE
from tsp.config.codec import convert, from_dict, leaf_values, set_dotted
from tsp.config.run import ACTION_COLUMN, REGION_COLUMN, Method, RunConfig
from tsp.config.strict_yaml import load_yaml, read_yaml
from tsp.errors import ConfigError

Heads = Literal["all", "action", "region"]

HEADS_OF_METHOD: dict[Method, Heads] = {"tsp": "all", "tac": "action"}
GVF_OF_METHOD: dict[Method, str] = {"tsp": "max", "tac": "none"}
COLUMNS_OF_HEADS: dict[Heads, tuple[str, ...]] = {
    "all": (ACTION_COLUMN, REGION_COLUMN),
    "action": (ACTION_COLUMN,),
    "region": (REGION_COLUMN,),
}
_NO_RECIPE = {
    "name": "name a run with --name",
    "method": "it follows from the recipe, or use --method",
    "store": "the store is a setting, or use --store",
    "data.name": "it is the data set's 'name'",
    "data.root": "write it as 'root' of the data set",
}
"""Keys that a recipe would set over the head of the options that give them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetFile:
    """One subset as a data-set file names it."""

    csv: str
    videos: str
    gvf: str | None = None
    """GVF file of this subset alone; may hold ``{backbone}`` and ``{pool}``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A data-set file: tables, videos, label maps, GVF and the recipe values that differ for it.

    Paths are relative to the root, but those that begin with ``./`` to the data-set file.
    """

    name: str
    train: SubsetFile
    valid: SubsetFile
    labels: dict[str, str]
    """Label column -> JSON list of class names."""
    gvf: str | None = None
    """GVF file of both subsets; may hold ``{backbone}`` and ``{pool}``."""
    root: str | None = None
    """Folder or ``s3://`` URI that all paths are relative to; a relative one is relative to this file."""
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Configuration values by dotted key, under ``all``, ``tsp`` or ``tac``."""
    beside: tuple[str, ...] = ()
    """Not a key of the file: its own relative paths, made absolute, which other machines cannot see."""


def shipped_datasets() -> tuple[str, ...]:
    """Names of the data sets that ship with tspctl."""
    folder = resources.files("tsp.config") / "datasets"
    return tuple(sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_dataset(dataset: str) -> Dataset:
    """A shipped data set by name, or the one a YAML file describes.

    Raises: ConfigError naming the file and key, or listing the names that exist.
    """
    if dataset in shipped_datasets():
        return _shipped(dataset)
    path = Path(dataset).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"unknown data set {dataset!r}: use {', '.join(shipped_datasets())}, or a file that ends in .yaml"
        )
    return _parse_dataset(read_yaml(path, "the data-set file"), where=str(path), folder=path.parent.resolve())


@functools.cache
def _shipped(dataset: str) -> Dataset:
    text = (resources.files("tsp.config") / "datasets" / f"{dataset}.yaml").read_text(encoding="utf-8")
    return _parse_dataset(load_yaml(text), where=f"data set {dataset}", folder=None)


def _parse_dataset(raw: Any, *, where: str, folder: Path | None) -> Dataset:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} must be a mapping with name, train, valid and labels")
    for key in ("labels", "recipes"):
        if not isinstance(raw.get(key, {}), dict):
            raise ConfigError(f"{where}: {key} must be a mapping, got {raw[key]!r}")
    plain = {key: value for key, value in raw.items() if key not in ("labels", "recipes")}
    known = [item.name for item in dataclasses.fields(Dataset) if item.name != "beside"]
    unknown = sorted(set(plain) - set(known))
    if unknown:
        raise ConfigError(f"{where} has an unknown key {unknown[0]!r}; known: {', '.join(known)}")
    for key in ("name", "train", "valid", "labels"):
        if key not in raw:
            raise ConfigError(f"{where} lacks the key {key!r}")
    if unread := sorted(map(str, raw["labels"].keys() - set(COLUMNS_OF_HEADS["all"]))):
        columns = ", ".join(COLUMNS_OF_HEADS["all"])
        raise ConfigError(f"{where}: labels has an unknown column {unread[0]!r}; known: {columns}")
    root = convert(str | None, raw.get("root"), f"{where}: root")
    beside = _paths_beside(raw, folder)
    if root is not None and folder is not None and "://" not in root:
        is_absolute = Path(root).is_absolute()
        root = str((folder / Path(root).expanduser()).resolve())
        beside += [] if is_absolute else [root]
    return Dataset(
        name=convert(str, raw["name"], f"{where}: name"),
        train=from_dict(SubsetFile, raw["train"], where=f"{where}: train"),
        valid=from_dict(SubsetFile, raw["valid"], where=f"{where}: valid"),
        labels=convert(dict[str, str], raw["labels"], f"{where}: labels"),
        gvf=convert(str | None, raw.get("gvf"), f"{where}: gvf"),
        root=root,
        recipes={str(method): _recipe(method, values, where) for method, values in raw.get("recipes", {}).items()},
        beside=tuple(beside),
    )


def _recipe(method: Any, values: Any, where: str) -> dict[str, Any]:
    """One recipe of a data-set file, by dotted key down to single values."""
    if method not in ("all", *get_args(Method)) or not isinstance(values, dict):
        raise ConfigError(f"{where}: recipes.{method} must be a mapping under all, tsp or tac")
    where = f"{where}: recipes.{method}."
    found = leaf_values(RunConfig, values, where=where)
    for key in found:
        for begin, cure in _NO_RECIPE.items():
            if key == begin or key.startswith(f"{begin}."):
                raise ConfigError(f"{where}{key} is not a recipe value: {cure}")
    return found


def _paths_beside(raw: dict[str, Any], folder: Path | None) -> list[str]:
    """Make ``./...`` paths absolute: tables, label maps and GVF files beside the data-set file.

    Returns: those paths.
    """
    beside = []
    fields = [
        (raw[subset], key) for subset in ("train", "valid") if isinstance(raw[subset], dict) for key in raw[subset]
    ]
    fields += [(raw["labels"], column) for column in raw["labels"]] + [(raw, "gvf")]
    for holder, key in fields:
        value = holder.get(key)
        if folder is not None and isinstance(value, str) and value.startswith("./"):
            holder[key] = str((folder / value).resolve())
            beside.append(holder[key])
    return beside


def heads_of(config: RunConfig) -> Heads:
    """The value of --heads that gives a configuration's heads."""
    columns = tuple(head.label_column for head in config.model.heads)
    return next((name for name, wanted in COLUMNS_OF_HEADS.items() if wanted == columns), "all")


def resolve(
    dataset: Dataset,
    method: Method,
    *,
    name: str,
    store: dict[str, Any],
    root: str | None = None,
    heads: Heads | None = None,
    gvf: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> RunConfig:
    """The whole configuration of a run.

    Args: name, the run's; store, keys of StoreConfig; root, the data URI (else the data-set file's);
        heads and gvf, None for the method's own; overrides, values by dotted key of RunConfig, which win.
    Raises: ConfigError naming the key.
    """
    recipe = {**dataset.recipes.get("all", {}), **dataset.recipes.get(method, {})}
    gvf_of_recipe = recipe.pop("model.gvf", None)
    gvf = gvf or gvf_of_recipe
    heads = heads or HEADS_OF_METHOD[method]
    columns = COLUMNS_OF_HEADS[heads]
    # A GVF that only the method asked for is dropped with the region head; one the user asked for is refused.
    gvf = gvf or (GVF_OF_METHOD[method] if REGION_COLUMN in columns else "none")
    data_root = root or dataset.root
    if data_root is None:
        raise ConfigError(
            f"no folder for the data set {dataset.name}: give its folder or s3:// URI with --data (or set 'data' "
            "in tspctl.toml)"
        )
    tree: dict[str, Any] = {
        "name": name,
        "method": method,
        "store": dict(store),
        "data": {"name": dataset.name, "root": data_root},
        "model": {"heads": [_head(dataset, column) for column in columns], "gvf": gvf},
    }
    values = {**recipe, **leaf_values(RunConfig, overrides or {}, where="config.")}
    for key, value in values.items():
        set_dotted(tree, key, value)
    backbone = tree["model"].get("backbone", DEFAULT_BACKBONE)
    for subset_name, subset in (("train", dataset.train), ("valid", dataset.valid)):
        subset_tree = {"csv": subset.csv, "videos": subset.videos}
        template = subset.gvf or dataset.gvf
        if template is not None and tree["model"]["gvf"] != "none":
            subset_tree["gvf"] = template.replace("{backbone}", backbone).replace("{pool}", tree["model"]["gvf"])
        tree["data"][subset_name] = {**subset_tree, **tree["data"].get(subset_name, {})}
    return from_dict(RunConfig, tree)


def _head(dataset: Dataset, column: str) -> dict[str, Any]:
    if column not in dataset.labels:
        raise ConfigError(f"the data set {dataset.name} names no label map for {column}: add it under labels")
    return {"label_column": column, "labels": dataset.labels[column]}
