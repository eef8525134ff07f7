"""A run as one line of the screen."""

from __future__ import annotations

from cli.humanize import show_duration
from cli.runs.report import RunReport

COLUMNS = ("NAME", "STATE", "PROGRESS", "CLIPS/S", "BEST", "LEFT", "REASON")
BAR_CELLS = 8


def cells(report: RunReport) -> tuple[str, ...]:
    """One text a column; what is unknown is empty."""
    speed = "" if report.clips_per_sec is None else f"{report.clips_per_sec:.1f}"
    left = "" if report.eta_sec is None else show_duration(report.eta_sec)
    best = "" if report.best_accuracy_percent is None else f"{report.best_accuracy_percent:.2f}"
    return (report.name, report.state, progress(report), speed, best, left, report.reason or report.waiting_for or "")


def detail(report: RunReport) -> str:
    """What the last columns say, in words: ``best 61.250 % in epoch 1; 1h02m left; <reason>``."""
    parts = []
    if report.best_accuracy_percent is not None:
        parts.append(f"best {report.best_accuracy_percent:.3f} % in epoch {report.best_epoch}")
    if report.eta_sec is not None:
        parts.append(f"{show_duration(report.eta_sec)} left")
    parts += [text for text in (report.reason, report.waiting_for and f"waits for {report.waiting_for}") if text]
    return f"{report.name}: {'; '.join(parts) or report.state}"


def progress(report: RunReport) -> str:
    """A bar over all epochs, and the epoch: ``████▌    3/6``. Empty where nothing is known."""
    if report.epoch is None or not report.epochs:
        return ""
    share = finished_share(report)
    whole, part = divmod(round(share * BAR_CELLS * 2), 2)
    bar = "█" * whole + "▌" * part
    return f"{bar:<{BAR_CELLS}} {report.epoch + 1}/{report.epochs}"


def finished_share(report: RunReport) -> float:
    """Of the run's epochs, 0 to 1; the epoch that is being trained counts by its steps."""
    assert report.epoch is not None
    assert report.epochs
    if report.state == "succeeded":
        return 1.0
    inside = (report.step or 0) / report.steps if report.steps and report.phase == "training" else 0.0
    if report.phase in ("validating", "saving", "done"):
        inside = 1.0
    return min(1.0, (report.epoch + inside) / report.epochs)
