"""``tspctl logs``, and following a run for ``submit --follow``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cli.options import run_argument, with_settings

if TYPE_CHECKING:
    from cli.backend import LogLine, LogQuery
    from cli.runs import FoundRun
    from cli.settings import Settings
    from tsp.run.run import Run

STORE_POLL_SEC = 5.0
END_TIMEOUT_SEC = 120.0
"""For the last word on a run whose lines have ended."""


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Wait for lines until the run has ended; exit with its outcome.")
@click.option("--rank", "ranks", type=click.IntRange(0), multiple=True, help="Only this rank (repeatable).")
@click.option("--all", "all_ranks", is_flag=True, help="All ranks (the default).")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines of each rank.")
@click.option("--since", metavar="TIME", help="Only lines newer than 10s, 5m, 2h, 1d, or an ISO time.")
@click.option("--timestamps", is_flag=True, help="Show when each line was written (UTC).")
@click.option("--attempt", type=click.IntRange(1), metavar="K", help="Only this attempt.")
@click.option("--previous", is_flag=True, help="Only the attempt before the newest.")
@with_settings
def logs(
    run: str,
    follow: bool,
    ranks: tuple[int, ...],
    all_ranks: bool,
    tail: int | None,
    since: str | None,
    timestamps: bool,
    attempt: int | None,
    previous: bool,
    settings: Settings,
) -> None:
    """Print what the ranks of a run wrote, merged in the order of time.

    Attempts follow each other. When the processes are gone the lines come from the store.
    """
    from cli.backend import LogQuery
    from cli.runs import find_run

    if all_ranks and ranks:
        raise click.UsageError("--all and --rank exclude each other")
    if previous and (follow or attempt):
        raise click.UsageError("--previous goes with neither --follow nor --attempt")
    query = LogQuery(
        follow=follow,
        ranks=ranks or None,
        tail=tail,
        since=parse_since(since) if since else None,
        attempt=attempt,
        previous=previous,
    )
    found = find_run(settings, run)
    if follow:
        sys.exit(follow_run(settings, found, query, timestamps=timestamps, to_stderr=False))
    for line in read(found, query):
        click.echo(show_line(line, timestamps=timestamps))


def follow_run(settings: Settings, found: FoundRun, query: LogQuery, *, timestamps: bool, to_stderr: bool) -> int:
    """Print lines until the run has ended. Returns: the exit code of its outcome.

    Ctrl-C ends the following alone.
    """
    from cli.follow import progress_line
    from cli.outcome import exit_code_of, wait_for_end

    try:
        with progress_line(found.run, to_stderr=to_stderr) as write:
            for line in read(found, query):
                write(show_line(line, timestamps=timestamps))
    except KeyboardInterrupt:
        click.echo(
            f"\nno longer following; the run goes on: 'tspctl logs -f {found.name}' follows it again, "
            f"'tspctl cancel {found.name}' stops it",
            err=True,
        )
        raise
    # The lines have ended; a server that is away just now is asked until it says how.
    state, reason = wait_for_end(found, timeout_sec=END_TIMEOUT_SEC)
    click.echo(f"run {found.name}: {state}" + (f": {reason}" if reason else ""), err=True)
    return exit_code_of(state)


def read(found: FoundRun, query: LogQuery) -> Iterator[LogLine]:
    """Lines from where the run lives, or from the store when nothing is left there."""
    if found.backend is not None and found.place is not None:
        lines = found.backend.logs(found.name, query)
        if lines is not None:
            return lines
    from cli.loglines import read_lines

    ended = _ended_by_store(found) if query.follow else None
    return read_lines(StoreLogs(found.run), query, ended=ended, poll_sec=STORE_POLL_SEC)


def _ended_by_store(found: FoundRun) -> Callable[[], bool]:
    from cli.outcome import has_ended

    return lambda: has_ended(found)


class StoreLogs:
    """Logs as the ranks stored them."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def attempts(self) -> list[int]:
        """Attempts that stored a log."""
        return self.run.attempts()

    def ranks(self, attempt: int) -> list[int]:
        """Ranks that stored a log."""
        return self.run.ranks(attempt)

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        """The rest of a log."""
        return self.run.store.read(self.run.log_key(attempt, rank), offset_bytes=offset_bytes)


def show_line(line: LogLine, *, timestamps: bool) -> str:
    """``[rank 0] text``, with the time in front if wanted."""
    prefix = f"[rank {line.rank}] "
    if timestamps:
        prefix = (line.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if line.time else "-".ljust(27)) + " " + prefix
    return prefix + line.text


def parse_since(text: str) -> datetime:
    """A moment: an age (``90s``, ``5m``, ``2h``, ``1d``) before now, or an ISO time (without a zone: local)."""
    from datetime import UTC, timedelta

    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text[:-1].isdigit() and text[-1] in seconds:
        return datetime.now(UTC) - timedelta(seconds=int(text[:-1]) * seconds[text[-1]])
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither an age like 5m nor an ISO time", param_hint="--since") from error
