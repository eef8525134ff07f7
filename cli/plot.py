"""Plots as files: the only module that imports matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsp.errors import ConfigError
from tsp.version import install_command


@contextmanager
def figure_file(
    path: str, rows: int, columns: int, *, size_inches: tuple[float, float], **options: Any
) -> Iterator[Any]:
    """Axes to draw on, as ``pyplot.subplots`` gives them; the file is written when the block ends well.

    Raises: ConfigError if matplotlib is missing or the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigError(f"--plot needs matplotlib: {install_command('plot')}") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size_inches, layout="constrained", **options)
    try:
        yield axes
        Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot {path}: {error}") from error
    finally:
        plt.close(figure)
