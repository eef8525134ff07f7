"""Defaults of ``tspctl``: built-in < ~/.config/tspctl/config.toml < ./tspctl.toml < TSPCTL_* variables < options."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cli.options.backend_names import BackendName
from cli.options.user_folders import current_folder, user_folder
from tsp.config.address import check_addresses
from tsp.config.codec import convert, hints_of
from tsp.config.text_file import decoded, read_file
from tsp.errors import ConfigError

PREFIX = "TSPCTL_"
_SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Kubernetes sets such variables in a pod for every service of its namespace, whatever its name."""
NO_SETTINGS = frozenset({"TSPCTL_CACHE"})
"""Variables with that prefix that are no settings: the folder where the checkout's scripts cache what they build."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The keys of settings files; in the environment they are TSPCTL_<KEY>."""

    backend: BackendName = "kubernetes"
    """Default of --backend."""
    store: str | None = None
    """``s3://bucket/prefix`` or a folder; default for local runs: ~/.local/share/tspctl/store."""
    endpoint_url: str | None = None
    """S3 endpoint for this machine."""
    endpoint_url_in_cluster: str | None = None
    """S3 endpoint for pods, if different."""
    region: str | None = None
    path_style: bool = True
    ca_bundle: str | None = None
    checksums: Literal["auto", "when_required", "when_supported"] = "auto"
    data: str | None = None
    """Folder or ``s3://`` URI of the data set; ``{dataset}`` is replaced by the data set's name."""
    datasets: dict[str, str] = field(default_factory=dict)
    """Data set's name -> its folder or URI; overrides ``data``. Only in files."""
    pretrained: str | None = None
    """Default of --pretrained: ``none``, a file, ``s3://``, ``https://``, or a released name."""
    models_url: str | None = None
    """Mirror of the released checkpoints: a folder, ``s3://`` or ``https://``; 'tspctl models pull --to' fills it."""
    gpus: int = 1
    workers: int | None = None
    """Data workers per rank."""
    set: dict[str, Any] = field(default_factory=dict)
    """Configuration values by dotted key, as for --set. Only in files."""
    image: str | None = None
    """Container image of the ranks."""
    queue: str | None = None
    """Kueue queue."""
    check_nodes: bool = True
    """Refuse a run that the cluster's nodes can never fit; false if an autoscaler adds nodes."""
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    chart: str | None = None
    """Chart to install: a folder, an archive or an OCI reference; default: the one included in tspctl."""
    chart_values: dict[str, Any] = field(default_factory=dict)
    """Chart values by dotted key. Only in files."""

    def __post_init__(self) -> None:
        check_addresses(self)

    def data_of(self, dataset: str | None) -> str | None:
        """Folder or URI of a data set; None if it is not set. Args: dataset, its name; None where it is not known."""
        if dataset in self.datasets:
            return self.datasets[dataset]
        if self.data is None or (dataset is None and "{dataset}" in self.data):
            return None
        return self.data.replace("{dataset}", dataset or "")


def load_settings(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Settings from files and environment; later ones override earlier ones key by key.

    Args: environment, default the process's; folder, where ``tspctl.toml`` is looked for, default the current one.
    Raises: ConfigError naming the file or variable and the key.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for path in settings_files(environment, folder):
        for key, value in _read_file(path).items():
            values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    values.update(_read_environment(environment))
    return Settings(**values)


def settings_files(environment: Mapping[str, str], folder: Path | None = None) -> list[Path]:
    """Paths of the settings files, existing or not, in the order in which they are read."""
    paths = []
    # No home folder, or a current folder that was deleted: no such file.
    with suppress(ConfigError):
        paths.append(user_folder("CONFIG", environment) / "config.toml")
    with suppress(ConfigError):
        paths.append((current_folder() if folder is None else folder) / "tspctl.toml")
    return paths


def _read_file(path: Path) -> dict[str, Any]:
    name = f"the settings file {path}"
    try:
        raw = tomllib.loads(decoded(read_file(path, name, ConfigError), name, ConfigError))
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return {}
        raise
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{name} is not TOML: {error}") from error
    return {key.replace("-", "_"): _checked(key, value, where=str(path)) for key, value in raw.items()}


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    hints = hints_of(Settings)
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        key = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable in NO_SETTINGS or text == "":
            continue
        if key not in hints and _SERVICE_LINK.fullmatch(variable):
            continue
        value: Any = text
        if hints.get(key) in (int, int | None):
            value = int(text) if re.fullmatch(r"-?[0-9]+", text) else text
        elif hints.get(key) is bool:
            value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        values[key] = _checked(key, value, where=f"environment variable {variable}")
    return values


def _checked(key: str, value: Any, *, where: str) -> Any:
    """The value, once the key is known and the type fits."""
    hints = hints_of(Settings)
    name = key.replace("-", "_")
    if name not in hints:
        raise ConfigError(f"{where}: unknown setting {key!r}; known: {', '.join(hints)}")
    if name in ("set", "chart_values") and isinstance(value, dict):
        for dotted in value:
            _refuse_split_label(dotted, where=f"{where}: {key}")
    return convert(hints[name], value, f"{where}: {key}")


def _refuse_split_label(key: str, *, where: str) -> None:
    """Refuse a dotted key that would split a Kubernetes label (``nvidia.com/gpu.product``) at its dots.

    Raises: ConfigError with two ways to write it.
    """
    names = re.split(r"(?<!\\)\.", key)
    slashed = next((index for index, name in enumerate(names) if "/" in name), None)
    if slashed is None or (slashed <= 1 and slashed == len(names) - 1):
        return
    parent, label = names[0], ".".join(names[1:])
    escaped = label.replace(".", "\\.")
    raise ConfigError(
        f"{where}: {key!r} would be split at each of its dots: write '{parent}.{escaped}' (in single quotes), "
        f'or a table [chart_values.{parent}] with "{label}" = ...'
    )
