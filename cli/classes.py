"""Results per class as a table, CSV or plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.output import print_csv, print_table

CONFUSIONS_SHOWN = 3
NAMED_CLASSES = 40
"""Axes of more classes than this show no names: they would lie over each other."""
CSV_COLUMNS = ("head", "class", "clips", "correct", "accuracy_percent", "predicted", "predicted_clips")

Row = Mapping[str, Any]
"""head, class, clips, correct, accuracy_percent (or None), predicted {class: clips}."""


def print_classes(rows: Sequence[Row]) -> None:
    """One line a class."""
    titles = ["CLASS", "HEAD", "CLIPS", "ACCURACY %", "MOST OFTEN CONFUSED WITH"]
    print_table(titles, [
        [row["class"], row["head"], row["clips"],
         None if row["accuracy_percent"] is None else f"{row['accuracy_percent']:.3f}", ", ".join(_confusions(row))]
        for row in rows
    ])  # fmt: skip


def _confusions(row: Row) -> Iterator[str]:
    wrong = [(label, clips) for label, clips in row["predicted"].items() if label != row["class"]]
    for label, clips in wrong[:CONFUSIONS_SHOWN]:
        yield f"{label} {clips}"


def print_confusions(rows: Sequence[Row]) -> None:
    """As CSV, one line for each pair of true and predicted class; one line for a class without clips."""
    lines = []
    for row in rows:
        fixed = [row["head"], row["class"], row["clips"], row["correct"], row["accuracy_percent"]]
        lines += [[*fixed, *cell] for cell in row["predicted"].items() or [("", 0)]]
    print_csv(CSV_COLUMNS, lines)


def draw_classes(rows: Sequence[Row], path: str, *, title: str) -> None:
    """For each head the accuracy of every class, and the confusion matrix with each class's clips as 100 %.

    Raises: ConfigError if matplotlib is missing or the file cannot be written.
    """
    from cli.plot import figure_file

    heads = list(dict.fromkeys(row["head"] for row in rows))
    with figure_file(path, len(heads), 2, size_inches=(14, 6 * len(heads)), squeeze=False) as axes:
        for (bars, matrix), head in zip(axes, heads, strict=True):
            own = [row for row in rows if row["head"] == head]
            labels = [row["class"] for row in own]
            places = range(len(labels))
            bars.barh(places, [row["accuracy_percent"] or 0.0 for row in own])
            bars.set(title=f"{title}\n{head}", xlabel="Accuracy, %", xlim=(0, 100))
            shares = [[100 * row["predicted"].get(label, 0) / max(row["clips"], 1) for label in labels] for row in own]
            image = matrix.imshow(shares, vmin=0, vmax=100, cmap="Blues", aspect="auto")
            matrix.figure.colorbar(image, ax=matrix, label="% of the class's clips")
            matrix.set(xlabel="Taken for", ylabel="Class")
            for axis, turn in ((bars.yaxis, 0), (matrix.yaxis, 0), (matrix.xaxis, 90)):
                if len(labels) <= NAMED_CLASSES:
                    axis.set_ticks(places, labels, rotation=turn)
            bars.invert_yaxis()
