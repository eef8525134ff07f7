"""Plots as files: the only module that imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsp.errors import ConfigError, StoreError
from tsp.store.atomic import write_atomically
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
        drawn = io.BytesIO()
        figure.savefig(drawn, format=Path(path).suffix.lstrip(".") or "png", dpi=150)
    except ValueError as error:
        raise ConfigError(f"--plot {path}: {error}") from error
    finally:
        plt.close(figure)
    try:
        # Not drawn into the file itself: on a full disk half a picture would stay.
        write_atomically(Path(path).absolute(), drawn.getvalue())
    except StoreError as error:
        raise ConfigError(f"--plot {path}: {error}") from error
