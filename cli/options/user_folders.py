"""The user's folders (settings, state, data) and the current folder; none of them need exist."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tsp.errors import ConfigError

_DEFAULTS = {"CONFIG": ".config", "STATE": ".local/state", "DATA": ".local/share"}


def user_folder(kind: Literal["CONFIG", "STATE", "DATA"], environment: Mapping[str, str] | None = None) -> Path:
    """``$XDG_<kind>_HOME/tspctl``, by default below the home folder (XDG Base Directory Specification).

    Args: environment, default the process's.
    Raises: ConfigError where there is no home folder, as in a container whose user has no entry in /etc/passwd.
    """
    environment = os.environ if environment is None else environment
    variable = f"XDG_{kind}_HOME"
    base = environment.get(variable)
    if base:
        return Path(base) / "tspctl"
    home = environment.get("HOME") or _home_in_passwd()
    if not home:
        raise ConfigError(f"no home folder: HOME is not set and user {os.getuid()} is unknown; set HOME or {variable}")
    return Path(home) / _DEFAULTS[kind] / "tspctl"


def current_folder() -> Path:
    """The current folder.

    Raises: ConfigError if it was deleted.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(
            "the current folder no longer exists: change to another one, or give absolute paths"
        ) from error


def _home_in_passwd() -> str | None:
    home = os.path.expanduser("~")
    # Without HOME and an entry in /etc/passwd the tilde stays.
    return None if home == "~" else home
