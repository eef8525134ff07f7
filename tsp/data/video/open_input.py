"""Opens a video file for reading, with the only version of PyAV that is tested."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer

from tsp.errors import ConfigError

AV_MAJOR = 18
"""PyAV's major version, which decides FFmpeg's: 8.1. pyproject.toml asks for the same."""


def open_input(path: str | Path) -> InputContainer:
    """Open a file; metadata in an unknown encoding do not matter.

    Raises: ConfigError if another major version of PyAV is installed, which would fail at every file or, worse, show
        other frames; what ``av.open`` raises.
    """
    if int(av.__version__.split(".")[0]) != AV_MAJOR:
        raise ConfigError(
            f"PyAV {av.__version__} is installed, but tspctl needs PyAV {AV_MAJOR}: install 'av=={AV_MAJOR}.*'"
        )
    return av.open(str(path), metadata_errors="ignore")
