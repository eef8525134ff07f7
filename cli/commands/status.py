"""``tspctl status``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cli.humanize import curve, show_duration
from cli.output import FORMATS, format_option, print_pairs, print_table, print_value
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session

if TYPE_CHECKING:
    from cli.runs.report import RunReport
    from tsp.run.stored_run import StoredRun


@click.command()
@run_argument
@format_option(*FORMATS)
@with_session
def status(run: str, output: str, session: Session) -> None:
    """Show how a run is doing, and why it waits or failed."""
    from cli.runs.report import report_from_backend, report_on
    from tsp.errors import StoreError

    found = session.find(run)
    backend = found.backend.name if found.backend else None
    try:
        if found.is_job and found.status is not None and backend is not None:
            report = report_from_backend(found.status, backend)
        else:
            report = report_on(found.run, found.status, backend)
    except StoreError as error:
        if found.status is None or backend is None:
            raise
        click.echo(f"warning: without progress and results: {error}", err=True)
        report = report_from_backend(found.status, backend)
    if output != "table":
        print_value(report.as_row(), output)
        return
    print_pairs([*_pairs(report), *(_curves(found.run) if _is_terminal() and not found.is_job else ())])
    if report.ranks:
        click.echo()
        print_table(
            ["RANK", "STATE", "WHERE", "GPU", "RESTARTS", "REASON"],
            [[rank.rank, rank.state, rank.where, rank.gpu, rank.restarts, rank.reason] for rank in report.ranks],
        )


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _curves(run: StoredRun) -> Iterator[tuple[str, str | None]]:
    """Accuracy over the epochs, and training loss over the steps, small: for a terminal."""
    from tsp.errors import TspError
    from tsp.run.metrics import read_metrics

    # A curve is a help beside the figures: what cannot be read for it is reported by `results` and `metrics`.
    with contextlib.suppress(TspError):
        yield "Accuracy", curve([result.avg_accuracy_percent for result in run.results().values()])
    with contextlib.suppress(TspError):
        yield "Training loss", curve([line["loss"] for line in read_metrics(run) if line["kind"] == "train"])


def _pairs(report: RunReport) -> list[tuple[str, Any]]:
    """Names and values as ``status`` prints them."""
    step = None
    if report.epoch is not None:
        epoch = f"{report.epoch} ({report.epoch + 1} of {report.epochs})"
        step = f"{epoch}, {report.phase}" + (f", step {report.step} of {report.steps}" if report.steps else "")
    batch = None
    if report.batch_per_gpu is not None:
        batch = f"{report.batch_per_gpu} x {report.gpus} = {report.global_batch} (downscale factor {report.downscale})"
    best = None
    if report.best_epoch is not None:
        best = f"epoch {report.best_epoch}, Avg Accuracy {report.best_accuracy_percent:.3f} %"
    rates = None
    if report.backbone_lr is not None:
        rates = f"{report.backbone_lr:g} (backbone), {report.head_lr:g} (heads)"
    code = None
    if report.exit_code:
        code = f"{report.exit_code} ({report.exit_meaning})" if report.exit_meaning else str(report.exit_code)
    recipe = " ".join(str(item) for item in (report.method, report.dataset, report.backbone) if item) or None
    return [
        ("Run" if report.kind == "train" else "Job", report.name),
        ("Kind", None if report.kind == "train" else report.kind),
        ("State", report.state),
        ("Reason", report.reason),
        ("Exit code", code),
        ("Recipe", recipe),
        ("Epoch", step),
        ("Speed", None if report.clips_per_sec is None else f"{report.clips_per_sec:.1f} clips/s on {report.device}"),
        ("Data wait", None if report.data_wait_share is None else f"{report.data_wait_share:.0%} of the time"),
        ("Waiting for", report.waiting_for),
        ("Time left", None if report.eta_sec is None else show_duration(report.eta_sec)),
        ("Best so far", best),
        ("Effective batch", batch),
        ("Learning rates now", rates),
        ("Bad clips", report.bad_clips or None),
        ("Attempt", report.attempt),
        ("Started", report.created),
        ("Last progress", report.updated),
        ("Ended", report.ended),
        ("Store", f"{report.store}/{report.name}" if report.store and report.kind == "train" else None),
    ]
