"""Which store a command uses, and how it connects."""

from __future__ import annotations

import re
from pathlib import Path

from cli.options.backend_names import BACKENDS
from cli.options.settings import Settings
from cli.options.user_folders import current_folder, user_folder
from tsp.config.address import check_address
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError

NOWHERE = "/nonexistent"
"""A path that exists nowhere, by convention: the store of what has none."""
_CUT_SCHEME = re.compile(r"(s3|https?|file|gs|hf|az):/?(?!/)", re.IGNORECASE)


def default_store() -> Path:
    """Default store of runs on this machine."""
    return user_folder("DATA") / "store"


def store_config(settings: Settings, uri: str | None = None) -> StoreConfig:
    """Connection settings of the settings' store, or of another URI on the same server.

    Raises: ConfigError if no store is set.
    """
    uri = uri or settings.store
    if uri is None and BACKENDS[settings.backend].has_default_store:
        uri = str(default_store())
    if uri is None:
        raise ConfigError("no store: give --store URI, or set 'store' in tspctl.toml or TSPCTL_STORE")
    check_address("endpoint_url_in_cluster", settings.endpoint_url_in_cluster)
    return StoreConfig(
        uri=absolute_unless_uri(uri),
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        path_style=settings.path_style,
        ca_bundle=settings.ca_bundle and absolute_unless_uri(settings.ca_bundle),
        checksums=settings.checksums,
    )


def absolute_unless_uri(path: str) -> str:
    """An absolute path (``~`` is the home folder); URIs are unchanged.

    Raises: ConfigError if the home or current folder is needed and does not exist.
    """
    if "://" in path:
        return path
    if cut := _CUT_SCHEME.match(path):
        slashes = "///" if cut[1].lower() == "file" else "//"
        raise ConfigError(f"{path} is neither a URI nor a folder: did you mean {cut[1]}:{slashes}{path[cut.end() :]}?")
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no such user or home folder: give an absolute path") from error
    return str(expanded if expanded.is_absolute() else current_folder() / expanded)
