"""``tspctl status``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cli.humanize import curve, show_duration
from cli.output import FORMATS, format_option, print_pairs, print_table, print_value
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from cli.runs.summary import RunSummary
    from tsp.run.stored_run import StoredRun


@click.command()
@run_argument
@format_option(*FORMATS)
@with_session
def status(run: str, output: str, session: Session) -> None:
    """Show how a run is doing, and why it is waiting or failed."""
    from cli.runs.images import images_of, keep_images
    from cli.runs.job_progress import job_progress
    from cli.runs.summary import summarize, summary_from_backend
    from tsp.errors import StoreError
    from tsp.run.status import RUNNING

    found = session.find(run)
    backend = found.backend.name if found.backend else None
    try:
        if found.is_job and found.status is not None and backend is not None:
            summary = summary_from_backend(found.status, backend)
            if found.backend is not None and summary.state in RUNNING:
                summary = replace(summary, work=job_progress(found.backend, summary.name, shards=summary.gpus))
        else:
            summary = summarize(found.run, found.status, backend)
            keep_images(found.run, found.status)
            summary = replace(summary, images=tuple(images_of(found.run, found.status)))
            if found.has_lost_its_files():
                echo(f"warning: {found.without_files}", err=True)
    except StoreError as error:
        if found.status is None or backend is None:
            raise
        echo(f"warning: progress and results are not available: {error}", err=True)
        summary = summary_from_backend(found.status, backend)
    if output != "table":
        print_value(summary.as_row(), output)
        return
    print_pairs([*_pairs(summary), *(_curves(found.run) if _is_terminal() and not found.is_job else ())])
    if summary.ranks:
        echo()
        print_table(
            ["RANK", "STATE", "WHERE", "GPU", "RESTARTS", "REASON"],
            [[rank.rank, rank.state, rank.where, rank.gpu, rank.restarts, rank.reason] for rank in summary.ranks],
        )


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _curves(run: StoredRun) -> Iterator[tuple[str, str | None]]:
    """Accuracy over the epochs, and training loss over the steps, small: for a terminal."""
    from tsp.errors import TspError
    from tsp.run.metrics import sample_metrics

    # The curve is only an addition to the results: `results` and `metrics` report what cannot be read for it.
    with contextlib.suppress(TspError):
        yield "Accuracy", curve([result.avg_accuracy_percent for result in run.results().values()])
    with contextlib.suppress(TspError):
        yield "Training loss", curve([line["loss"] for line in sample_metrics(run) if line["kind"] == "train"])


def _pairs(run: RunSummary) -> list[tuple[str, Any]]:
    """Names and values as ``status`` prints them."""
    from tsp.run.pod_images import described

    step = None
    if run.epoch is not None:
        epoch = f"{run.epoch} ({run.epoch + 1} of {run.epochs})"
        step = f"{epoch}, {run.phase}" + (f", step {run.step} of {run.steps}" if run.steps else "")
    batch = None
    if run.batch_per_gpu is not None:
        batch = f"{run.batch_per_gpu} x {run.gpus} = {run.global_batch} (downscale factor {run.downscale})"
    best = None
    if run.best_epoch is not None:
        best = f"epoch {run.best_epoch}, Avg Accuracy {run.best_accuracy_percent:.3f} %"
    rates = None
    if run.backbone_lr is not None:
        rates = f"{run.backbone_lr:g} (backbone), {run.head_lr:g} (heads)"
    code = None
    if run.exit_code:
        code = f"{run.exit_code} ({run.exit_meaning})" if run.exit_meaning else str(run.exit_code)
    recipe = " ".join(str(item) for item in (run.method, run.dataset, run.backbone) if item) or None
    return [
        ("Run" if run.kind == "train" else "Job", run.name),
        ("Kind", None if run.kind == "train" else run.kind),
        ("State", run.state),
        ("Reason", run.reason),
        ("Exit code", code),
        ("Recipe", recipe),
        ("Epoch", step),
        ("Done so far", run.work),
        ("Speed", None if run.clips_per_sec is None else f"{run.clips_per_sec:.1f} clips/s on {run.device}"),
        ("Data wait", None if run.data_wait_share is None else f"{run.data_wait_share:.0%} of the time"),
        ("Waiting for", run.waiting_for),
        ("Time left", None if run.eta_sec is None else show_duration(run.eta_sec)),
        ("Best so far", best),
        ("Effective batch", batch),
        ("Learning rates now", rates),
        ("Bad clips", run.bad_clips or None),
        ("Attempt", run.attempt),
        ("Image", described(run.images) or None),
        ("Started", run.created),
        ("Last progress", run.updated),
        ("Ended", run.ended),
        ("Store", f"{run.store}/{run.name}" if run.store and run.kind == "train" else None),
    ]
