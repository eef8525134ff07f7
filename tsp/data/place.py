"""Where the files of a data set lie: tables, label maps, features and videos under its root."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

from tsp.errors import ConfigError
from tsp.run.config import DataConfig


class VideoPlace(Protocol):
    """Where the videos of one subset are read from. Pickled to every data worker."""

    def open_path(self, filename: str) -> Path:
        """A local path under which the file can be read now."""


class LocalVideos:
    """Videos in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open_path(self, filename: str) -> Path:
        """The file in the folder; whether it is there shows when it is opened."""
        return self._folder / filename


def local_root(config: DataConfig) -> Path:
    """The data set's folder on this machine.

    Raises: ConfigError if the root is on another machine, or no folder is there.
    """
    parsed = urlparse(config.root)
    root = Path(unquote(parsed.path) if parsed.scheme == "file" else config.root).expanduser()
    if parsed.scheme not in ("", "file"):
        raise ConfigError(f"data.root {config.root} is not a folder of this machine")
    if not root.is_dir():
        raise ConfigError(f"the data set's folder {root} does not exist: give the right one with --data")
    return root
