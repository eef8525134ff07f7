"""The chart of ``check --plot``: segments per class, training beside validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tsp.errors import ConfigError
from tsp.store.atomic import new_file
from tsp.version import install_command

_INCHES_PER_CLASS = 0.28


def draw_histogram(
    path: Path, classes: Mapping[str, Sequence[str]], kept: Mapping[str, Mapping[str, Counter[str]]]
) -> None:
    """Write a PNG with one chart per label column.

    Args: classes, label column -> class names; kept, subset -> label column -> class -> kept segments.
    Raises: ConfigError if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"--plot needs matplotlib: {install_command('plot')}") from error
    heights = [1.2 + _INCHES_PER_CLASS * len(names) for names in classes.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    charts = figure.subplots(len(classes), 1, squeeze=False, height_ratios=heights)[:, 0]
    thickness = 0.8 / max(1, len(kept))
    for chart, (column, names) in zip(charts, classes.items(), strict=True):
        for number, (subset, counts) in enumerate(kept.items()):
            places = [index + number * thickness for index in range(len(names))]
            chart.barh(places, [counts[column][name] for name in names], thickness, label=subset)
        chart.set_yticks([index + (len(kept) - 1) * thickness / 2 for index in range(len(names))], names, fontsize=8)
        chart.invert_yaxis()
        chart.set_xlabel("segments of at least one clip")
        chart.set_title(column)
        chart.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    with new_file(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
