"""Resolves a data set, a method and options to the complete configuration of a run.

In rising precedence: the defaults of ``config``, the method (heads, GVF), the data set's own recipe, options. A data
set is a YAML file; the shipped ones are in ``tsp/config/datasets`` and have the format of a user's own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from tsp.config.backbones import DEFAULT_BACKBONE
from tsp.config.codec import from_dict, set_dotted
from tsp.config.run import ACTION_COLUMN, REGION_COLUMN, Method, RunConfig
from tsp.config.strict_yaml import load_yaml
from tsp.errors import ConfigError

Heads = Literal["all", "action", "region"]

HEADS_OF_METHOD: dict[Method, Heads] = {"tsp": "all", "tac": "action"}
GVF_OF_METHOD: dict[Method, str] = {"tsp": "max", "tac": "none"}
COLUMNS_OF_HEADS: dict[Heads, tuple[str, ...]] = {
    "all": (ACTION_COLUMN, REGION_COLUMN),
    "action": (ACTION_COLUMN,),
    "region": (REGION_COLUMN,),
}


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
        text = (resources.files("tsp.config") / "datasets" / f"{dataset}.yaml").read_text()
        return _parse_dataset(text, where=f"data set {dataset}", folder=None)
    path = Path(dataset).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"unknown data set {dataset!r}: use {', '.join(shipped_datasets())}, or a file that ends in .yaml"
        )
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot read the data-set file {path}: {error.strerror}") from error
    return _parse_dataset(text, where=str(path), folder=path.parent.resolve())


def _parse_dataset(text: str, *, where: str, folder: Path | None) -> Dataset:
    try:
        raw = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} cannot be read as YAML: {error}") from error
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
    root = raw.get("root")
    beside = _paths_beside(raw, folder)
    if isinstance(root, str) and folder is not None and "://" not in root:
        is_absolute = Path(root).is_absolute()
        root = str((folder / Path(root).expanduser()).resolve())
        beside += [] if is_absolute else [root]
    recipes = raw.get("recipes", {})
    for method, values in recipes.items():
        if method not in ("all", *get_args(Method)) or not isinstance(values, dict):
            raise ConfigError(f"{where}: recipes.{method} must be a mapping under all, tsp or tac")
    return Dataset(
        name=str(raw["name"]),
        train=from_dict(SubsetFile, raw["train"], where=f"{where}: train"),
        valid=from_dict(SubsetFile, raw["valid"], where=f"{where}: valid"),
        labels={str(key): str(value) for key, value in raw["labels"].items()},
        gvf=raw.get("gvf"),
        root=root,
        recipes=recipes,
        beside=tuple(beside),
    )


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
    heads = heads or HEADS_OF_METHOD[method]
    columns = COLUMNS_OF_HEADS[heads]
    # A GVF that only the method asked for is dropped with the region head; one the user asked for is refused.
    gvf = gvf or (GVF_OF_METHOD[method] if REGION_COLUMN in columns else "none")
    data_root = root or dataset.root
    if data_root is None:
        raise ConfigError(
            f"where is the data set {dataset.name}? give its folder or s3:// URI with --data "
            f"(or set 'data' in tspctl.toml)"
        )
    tree: dict[str, Any] = {
        "name": name,
        "method": method,
        "store": dict(store),
        "data": {"name": dataset.name, "root": data_root},
        "model": {"heads": [_head(dataset, column) for column in columns], "gvf": gvf},
    }
    values = {**dataset.recipes.get("all", {}), **dataset.recipes.get(method, {}), **(overrides or {})}
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
