"""A run as one line of the screen."""

from __future__ import annotations

from cli.humanize import one_line, show_duration
from cli.runs.summary import RunSummary

COLUMNS = ("NAME", "STATE", "PROGRESS", "CLIPS/S", "BEST", "LEFT", "REASON")
BAR_CELLS = 8
MAX_REASON_CHARS, MAX_DETAIL_CHARS = 200, 600


def cells(summary: RunSummary) -> tuple[str, ...]:
    """One text a column; what is unknown is empty."""
    speed = "" if summary.clips_per_sec is None else f"{summary.clips_per_sec:.1f}"
    left = "" if summary.eta_sec is None else show_duration(summary.eta_sec)
    best = "" if summary.best_accuracy_percent is None else f"{summary.best_accuracy_percent:.2f}"
    reason = one_line(summary.reason or summary.waiting_for or "", MAX_REASON_CHARS)
    return (one_line(summary.name), summary.state, progress(summary), speed, best, left, reason)


def detail(summary: RunSummary) -> str:
    """What the last columns say, in words: ``best 61.250 % in epoch 1; 1h02m left; <reason>``."""
    parts = []
    if summary.best_accuracy_percent is not None:
        parts.append(f"best {summary.best_accuracy_percent:.3f} % in epoch {summary.best_epoch}")
    if summary.eta_sec is not None:
        parts.append(f"{show_duration(summary.eta_sec)} left")
    parts += [text for text in (summary.reason, summary.waiting_for and f"waits for {summary.waiting_for}") if text]
    return one_line(f"{summary.name}: {'; '.join(parts) or summary.state}", MAX_DETAIL_CHARS)


def progress(summary: RunSummary) -> str:
    """A bar over all epochs, and the epoch: ``████▌    3/6``. Empty where nothing is known."""
    if summary.epoch is None or not summary.epochs:
        return ""
    share = finished_share(summary)
    whole, part = divmod(round(share * BAR_CELLS * 2), 2)
    bar = "█" * whole + "▌" * part
    return f"{bar:<{BAR_CELLS}} {summary.epoch + 1}/{summary.epochs}"


def finished_share(summary: RunSummary) -> float:
    """Of the run's epochs, 0 to 1; the epoch that is being trained counts by its steps."""
    assert summary.epoch is not None
    assert summary.epochs
    if summary.state == "succeeded":
        return 1.0
    inside = (summary.step or 0) / summary.steps if summary.steps and summary.phase == "training" else 0.0
    if summary.phase in ("validating", "saving", "done"):
        inside = 1.0
    return min(1.0, (summary.epoch + inside) / summary.epochs)
