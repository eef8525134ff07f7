"""Defaults of ``tspctl``: built-in < ~/.config/tspctl/config.toml < ./tspctl.toml < TSPCTL_* variables < options."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tsp.errors import ConfigError

PREFIX = "TSPCTL_"
NO_SETTINGS = frozenset({"TSPCTL_CACHE"})
"""Variables of that prefix that others read: the folder in which the checkout's scripts keep what they build."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Every key of a settings file; TSPCTL_<KEY> in the environment, an option of the same name on commands."""

    backend: Literal["kubernetes", "local"] = "kubernetes"
    """Where runs go unless --backend says otherwise."""
    store: str | None = None
    """``s3://bucket/prefix`` or a folder; local runs have ~/.local/share/tspctl/store by default."""
    endpoint_url: str | None = None
    """S3 endpoint as this machine reaches it."""
    endpoint_url_in_cluster: str | None = None
    """S3 endpoint as pods reach it, where that differs."""
    region: str | None = None
    path_style: bool = True
    ca_bundle: str | None = None
    checksums: Literal["auto", "when_required", "when_supported"] = "auto"
    data: str | None = None
    """Folder or ``s3://`` URI of the data set; ``{dataset}`` in it becomes the data set's name."""
    datasets: dict[str, str] = field(default_factory=dict)
    """Data set's name -> its folder or URI; wins over ``data``. Only in files."""
    pretrained: str | None = None
    """Initial weights for every submit that does not say otherwise: ``none``, a file, ``s3://``, ``https://``."""
    gpus: int = 1
    workers: int | None = None
    """Data worker processes per rank."""
    set: dict[str, Any] = field(default_factory=dict)
    """Configuration values by dotted key for every submit, as --set gives them. Only in files."""
    image: str | None = None
    """Container image of the ranks."""
    queue: str | None = None
    """Kueue queue."""
    check_nodes: bool = True
    """Refuse a run that the cluster's nodes could never hold; false where an autoscaler adds nodes."""
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    chart: str | None = None
    """Chart to install: a folder, an archive or an OCI reference; default: the one that ships."""
    chart_values: dict[str, Any] = field(default_factory=dict)
    """Chart values by dotted key for every submit. Only in files."""


def load_settings(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Settings from files and environment, the later one winning key by key.

    Args: environment, default the process's; folder, where ``tspctl.toml`` is looked for, default the current one.
    Raises: ConfigError naming the file or variable and the key.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for path in (user_file(environment), (folder or Path.cwd()) / "tspctl.toml"):
        values.update(_read_file(path))
    values.update(_read_environment(environment))
    return Settings(**values)


def user_file(environment: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/tspctl/config.toml``, by default under ``~/.config``."""
    base = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".config"
    return Path(base) / "tspctl" / "config.toml"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    return {key.replace("-", "_"): _checked(key, value, where=str(path)) for key, value in raw.items()}


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    hints = typing.get_type_hints(Settings)
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        key = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable in NO_SETTINGS or text == "":
            continue
        value: Any = text
        if hints.get(key) in (int, int | None):
            value = int(text) if text.lstrip("-").isdigit() else text
        elif hints.get(key) is bool:
            value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        values[key] = _checked(key, value, where=f"environment variable {variable}")
    return values


def _checked(key: str, value: Any, *, where: str) -> Any:
    """The value, if the key exists and the type fits."""
    hints = typing.get_type_hints(Settings)
    hint = hints.get(key.replace("-", "_"))
    if hint is None:
        known = ", ".join(item.name for item in dataclasses.fields(Settings))
        raise ConfigError(f"{where}: unknown setting {key!r}; known: {known}")
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    if choices and value not in choices:
        raise ConfigError(f"{where}: {key} must be one of {', '.join(choices)}, got {value!r}")
    kind = str if choices else next(kind for kind in (bool, int, dict, str) if kind in _kinds_of(hint))
    if type(value) is not kind:
        raise ConfigError(f"{where}: {key} must be of type {kind.__name__}, got {value!r}")
    return value


def _kinds_of(hint: Any) -> tuple[Any, ...]:
    """The plain types a hint allows: ``int | None`` allows int, ``dict[str, str]`` dict."""
    origin = typing.get_origin(hint)
    if origin is dict:
        return (dict,)
    return typing.get_args(hint) if origin is not None else (hint,)
