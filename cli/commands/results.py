"""``tspctl results``: accuracy and loss of each epoch of a run, or the best epochs of several runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.output import FORMATS, format_option, print_csv, print_table, print_value
from cli.runs.argument import runs_argument
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.runs.comparison import ComparedRun
    from cli.runs.found_run import FoundRun
    from cli.runs.several import NamedRun
    from tsp.run.results import EpochResult

_TITLES = {"avg_accuracy_percent": "AVG ACCURACY %", "total_loss": "TOTAL LOSS"}


@click.command()
@runs_argument
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE.png", help="Also plot the curves to a file.")
@format_option(*FORMATS, "csv")
@with_session
def results(runs: tuple[str, ...], plot: str | None, output: str, session: Session) -> None:
    """Show accuracy and loss of each epoch.

    The best epoch is marked. Several runs are compared: one line each, the highest average accuracy first, with the
    settings that differ; --plot draws them into one chart. RUN may be a folder of the original scripts (results.txt and
    epoch files only).
    """
    from cli.runs.images import keep_images
    from cli.runs.several import find_several

    several = find_several(session, runs)
    if len(several) == 1:
        _show_one(several[0].found, plot, output)
    else:
        _show_several(several, plot, output)
    for item in several:
        keep_images(item.found.run, item.found.status)


def _show_one(found: FoundRun, plot: str | None, output: str) -> None:
    """Raises: StoreError, once all others are shown, if an epoch's record cannot be read."""
    from cli.runs.comparison import refuse_missing
    from tsp.errors import DataError
    from tsp.run.results import best

    readable, failures = found.run.readable_results()
    epochs = list(readable.values())
    try:
        best_epoch = best(epochs).epoch
    except DataError as error:
        if not epochs:
            raise
        echo(f"warning: {error}", err=True)
        best_epoch = None
    if plot is not None:
        draw(epochs, best_epoch, plot, title=found.name)
        echo(f"wrote {plot}", err=True)
    _print_epochs(found.name, epochs, best_epoch, output)
    refuse_missing(failures, "the other epochs are shown")


def _print_epochs(name: str, epochs: Sequence[EpochResult], best_epoch: int | None, output: str) -> None:
    if output in ("json", "yaml"):
        print_value({"run": name, "best_epoch": best_epoch, "epochs": [as_row(e) for e in epochs]}, output)
        return
    titles, rows = _cells(epochs)
    if output == "csv":
        print_csv(["epoch", *titles], [[result.epoch, *row] for result, row in zip(epochs, rows, strict=True)])
        return
    marks = ["best" if result.epoch == best_epoch else "" for result in epochs]
    print_table(
        ["EPOCH", *map(_title, titles), ""],
        [[result.epoch, *map(_decimals, row), mark] for result, row, mark in zip(epochs, rows, marks, strict=True)],
        highlight=marks.index("best") if "best" in marks else None,
    )


def _show_several(several: Sequence[NamedRun], plot: str | None, output: str) -> None:
    from cli.runs.comparison import compare

    compared = compare(several)
    if plot is not None:
        draw_over_each_other(compared, plot)
        echo(f"wrote {plot}", err=True)
    if output in ("json", "yaml"):
        print_value([as_compared(run) for run in compared], output)
        return
    titles, rows = _cells([run.best for run in compared])
    keys = list(dict.fromkeys(key for run in compared for key in run.differs))
    if output == "csv":
        lines = [
            [run.name, run.best and run.best.epoch, *row, len(run.epochs), *(run.differs.get(key) for key in keys)]
            for run, row in zip(compared, rows, strict=True)
        ]
        print_csv(["run", "best_epoch", *titles, "epochs", *keys], lines)
        return
    print_table(
        ["RUN", "BEST EPOCH", *map(_title, titles),
         "EPOCHS", *keys],
        [[run.name, run.best and run.best.epoch, *map(_decimals, row), len(run.epochs),
          *(run.differs.get(key) for key in keys)] for run, row in zip(compared, rows, strict=True)],
        highlight=0 if compared[0].best else None,
    )  # fmt: skip


def _cells(results: Sequence[EpochResult | None]) -> tuple[list[str], list[list[float | None]]]:
    """Titles and results of some epochs; heads that only some of them have are None in the others."""
    columns = list(dict.fromkeys(head.label_column for result in results if result for head in result.heads))
    titles = ["avg_accuracy_percent", "total_loss"]
    titles += [title for column in columns for title in (f"{column}_percent", f"{column}_loss")]
    rows: list[list[float | None]] = []
    for result in results:
        row: list[float | None] = [result.avg_accuracy_percent, result.total_loss] if result else [None, None]
        heads = {head.label_column: head for head in result.heads} if result else {}
        for column in columns:
            head = heads.get(column)
            row += [head.accuracy_percent, head.loss] if head else [None, None]
        rows.append(row)
    return titles, rows


def _title(key: str) -> str:
    """A column of ``_cells`` as tables call it; heads keep their own spelling."""
    return _TITLES.get(key) or key.replace("_percent", " %").replace("_loss", " LOSS")


def _decimals(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def as_compared(run: ComparedRun) -> dict[str, Any]:
    """One run of a comparison, for JSON."""
    return {
        "run": run.name,
        "best_epoch": run.best and run.best.epoch,
        "best": run.best and as_row(run.best),
        "epochs": [as_row(result) for result in run.epochs],
        "differs": run.differs,
    }


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


def draw_over_each_other(runs: Sequence[ComparedRun], path: str) -> None:
    """Plot average accuracies (top) and total losses (bottom) of several runs over the epochs.

    Raises: ConfigError if matplotlib is missing or the file cannot be written.
    """
    from cli.plot import figure_file

    with figure_file(path, 2, 1, size_inches=(7, 7), sharex=True) as (upper, lower):
        for run in runs:
            numbers = [result.epoch for result in run.epochs]
            upper.plot(numbers, [result.avg_accuracy_percent for result in run.epochs], "o-", label=run.name)
            lower.plot(numbers, [result.total_loss for result in run.epochs], "o-", label=run.name)
        upper.set(ylabel="Average accuracy, %")
        lower.set(xlabel="Epoch", ylabel="Total loss")
        lower.xaxis.get_major_locator().set_params(integer=True)
        for axes in (upper, lower):
            axes.legend()
            axes.grid(alpha=0.3)
