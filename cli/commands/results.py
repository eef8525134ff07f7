"""``tspctl results``: accuracy and loss of each epoch, as a table, JSON, YAML or a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.output import FORMATS, format_option, print_table, print_value
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session

if TYPE_CHECKING:
    from tsp.run.results import EpochResult


@click.command()
@run_argument
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE.png", help="Also plot the curves to a file.")
@format_option(*FORMATS)
@with_session
def results(run: str, plot: str | None, output: str, session: Session) -> None:
    """Show accuracy and loss of each epoch.

    The best epoch is marked. RUN may be a folder of the original scripts (results.txt and epoch files only).
    """
    from tsp.errors import DataError
    from tsp.run.results import best

    found = session.find(run, only_training=True)
    epochs = list(found.run.results().values())
    try:
        best_epoch = best(epochs).epoch
    except DataError as error:
        if not epochs:
            raise
        click.echo(f"warning: {error}", err=True)
        best_epoch = None
    if plot is not None:
        draw(epochs, best_epoch, plot, title=found.name)
        click.echo(f"wrote {plot}", err=True)
    if output == "table":
        _print_table(epochs, best_epoch)
    else:
        print_value({"run": found.name, "best_epoch": best_epoch, "epochs": [as_row(e) for e in epochs]}, output)


def as_row(result: EpochResult) -> dict[str, Any]:
    """One epoch for JSON."""
    heads = [
        {"label_column": head.label_column, "accuracy_percent": head.accuracy_percent, "loss": head.loss}
        for head in result.heads
    ]
    return {
        "epoch": result.epoch,
        "heads": heads,
        "total_loss": result.total_loss,
        "avg_accuracy_percent": result.avg_accuracy_percent,
    }


def _print_table(epochs: list[EpochResult], best_epoch: int | None) -> None:
    """Print epochs as a table; heads that only some epochs have are empty in the others."""
    columns = list(dict.fromkeys(head.label_column for result in epochs for head in result.heads))
    titles = ["EPOCH", "AVG ACCURACY %", "TOTAL LOSS"]
    titles += [title for column in columns for title in (f"{column} %", f"{column} LOSS")]
    rows = []
    for result in epochs:
        heads = {head.label_column: head for head in result.heads}
        row = [str(result.epoch), f"{result.avg_accuracy_percent:.3f}", f"{result.total_loss:.3f}"]
        for column in columns:
            head = heads.get(column)
            row += [f"{head.accuracy_percent:.3f}", f"{head.loss:.3f}"] if head else ["-", "-"]
        rows.append([*row, "best" if result.epoch == best_epoch else ""])
    marked = next((i for i, result in enumerate(epochs) if result.epoch == best_epoch), None)
    print_table([*titles, ""], rows, highlight=marked)


def draw(epochs: list[EpochResult], best_epoch: int | None, path: str, *, title: str) -> None:
    """Plot accuracies (top) and losses (bottom) over the epochs.

    Raises: ConfigError if matplotlib is missing or the file cannot be written.
    """
    from cli.plot import figure_file

    numbers = [result.epoch for result in epochs]
    with figure_file(path, 2, 1, size_inches=(7, 7), sharex=True) as (upper, lower):
        for column in dict.fromkeys(head.label_column for result in epochs for head in result.heads):
            heads = [next((h for h in result.heads if h.label_column == column), None) for result in epochs]
            upper.plot(numbers, [h.accuracy_percent if h else float("nan") for h in heads], "o-", label=column)
            lower.plot(numbers, [h.loss if h else float("nan") for h in heads], "o-", label=column)
        upper.plot(numbers, [result.avg_accuracy_percent for result in epochs], "ko--", label="average")
        lower.plot(numbers, [result.total_loss for result in epochs], "ko--", label="total")
        if best_epoch is not None:
            upper.axvline(best_epoch, color="grey", linestyle=":", label="best epoch")
        upper.set(title=title, ylabel="Accuracy, %")
        lower.set(xlabel="Epoch", ylabel="Loss")
        lower.xaxis.get_major_locator().set_params(integer=True)
        for axes in (upper, lower):
            axes.legend()
            axes.grid(alpha=0.3)
