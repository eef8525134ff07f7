"""Which store a command speaks to, and how."""

from __future__ import annotations

import re
from pathlib import Path

from cli.options.settings import Settings
from cli.options.user_folders import current_folder, user_folder
from tsp.config.address import check_address
from tsp.config.run import StoreConfig
from tsp.errors import ConfigError

NOWHERE = "/nonexistent"
"""A folder that systems promise not to have: the store of what has none."""
_CUT_SCHEME = re.compile(r"(s3|https?|file|gs|hf|az):/?(?!/)", re.IGNORECASE)


def default_store() -> Path:
    """Where local runs store their results unless told otherwise."""
    return user_folder("DATA") / "store"


def store_config(settings: Settings, uri: str | None = None) -> StoreConfig:
    """The settings' store, or another URI spoken to in the same way.

    Raises: ConfigError if no store is set.
    """
    uri = uri or settings.store or (str(default_store()) if settings.backend == "local" else None)
    if uri is None:
        raise ConfigError("which store? give --store URI, or set 'store' in tspctl.toml or TSPCTL_STORE")
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
    """A path made absolute (``~`` is the home folder); a URI as it is.

    Raises: ConfigError if that takes a home or current folder, and there is none.
    """
    if "://" in path:
        return path
    if cut := _CUT_SCHEME.match(path):
        raise ConfigError(f"{path} is neither a URI nor a folder: did you mean {cut[1]}://{path[cut.end() :]}?")
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no such user or home folder: give the whole path") from error
    return str(expanded if expanded.is_absolute() else current_folder() / expanded)
