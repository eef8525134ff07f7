"""``tspctl metrics``: the history of a run, step by step."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.output import format_option, print_table, print_value
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from cli.runs.found_run import FoundRun

POLL_SEC = 5.0
COLUMNS = ("time", "kind", "epoch", "step", "loss", "accuracy_percent", "head_lr", "clips_per_sec", "data_wait_share",
           "gradient_norm", "memory_mib")  # fmt: skip
"""Of the table; the other formats have everything."""


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Follow until the run ends; the exit code is its outcome.")
@click.option("--last", metavar="AGE", help="Only lines newer than an age (10s, 5m, 2h, 1d) or an ISO time.")
@format_option("table", "csv", "json")
@with_session
def metrics(run: str, follow: bool, last: str | None, output: str, session: Session) -> None:
    """Show losses, learning rates, speed and memory over the steps of a run.

    The history is continuous across attempts: steps after the last saved state of a killed attempt are shown as the
    next attempt trained them. With --follow, -o json prints one object per line.
    """
    from cli.commands.logs import parse_since

    since = parse_since(last, option="--last").isoformat() if last else ""
    found = session.find(run, only_training=True)
    lines = (
        flat_line(line) for line in _lines(found, follow=follow) if line["kind"] != "start" and line["time"] >= since
    )
    if output == "json" and not follow:
        print_value(list(lines), output)
    elif output == "json":
        for line in lines:
            echo(json.dumps(line))
    elif output == "csv":
        _print_csv(lines)
    else:
        _print_table(lines, since=since, follow=follow)
    if follow:
        from cli.runs.logs import END_TIMEOUT_SEC
        from cli.runs.outcome import outcome_code, wait_for_end

        sys.exit(outcome_code(wait_for_end(found, timeout_sec=END_TIMEOUT_SEC)[0]))


def flat_line(line: dict[str, Any]) -> dict[str, Any]:
    """A line with a separate key for each head: ``loss.action-label``."""
    found: dict[str, Any] = {}
    for key, value in line.items():
        if isinstance(value, dict):
            name = {"losses": "loss", "accuracies_percent": "accuracy_percent"}.get(key, key)
            found |= {f"{name}.{label}": item for label, item in value.items()}
        else:
            found[key] = value
    return found


def _lines(found: FoundRun, *, follow: bool) -> Iterator[dict[str, Any]]:
    """The history; with ``follow`` also new lines, until the run has ended."""
    from cli.runs.outcome import has_ended, through_outages
    from tsp.run.metrics import MetricsReader, read_metrics

    if not follow:
        yield from read_metrics(found.run)
        return
    reader = MetricsReader(found.run)

    def look() -> tuple[bool, list[dict[str, Any]]]:
        return has_ended(found), reader.added()

    is_last, added = look()
    while True:
        yield from added
        if is_last:
            return
        time.sleep(POLL_SEC)
        is_last, added = through_outages(look)


def _print_csv(lines: Iterator[dict[str, Any]]) -> None:
    """With the columns of the first training and the first validation line; a value that came later has no column."""
    first: list[dict[str, Any]] = []
    for line in lines:
        first.append(line)
        if {item["kind"] for item in first} == {"train", "valid"}:
            break
    columns = list(dict.fromkeys(key for line in first for key in line))
    writer = csv.DictWriter(sys.stdout, columns or ["time"], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for line in (*first, *lines):
        writer.writerow(line)
        sys.stdout.flush()


def _print_table(lines: Iterator[dict[str, Any]], *, since: str, follow: bool) -> None:
    if not follow:
        rows = [_row(line) for line in lines]
        if not rows:
            why = f"none were written since {since}" if since else "the run has not trained yet"
            echo(f"no metrics: {why}, or it was made by the original scripts or an older version", err=True)
            return
        print_table([name.upper().replace("_", " ") for name in COLUMNS], rows)
        return
    for line in lines:
        echo("  ".join(f"{name} {value}" for name, value in zip(COLUMNS, _row(line), strict=True) if value is not None))


def _row(line: dict[str, Any]) -> Sequence[Any]:
    return [line.get(name) for name in COLUMNS]
