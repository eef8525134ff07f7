"""``tspctl logs``."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cli.runs.argument import run_argument
from cli.runs.logs import follow_run, read, show_line
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from cli.backends.base import LogQuery
    from cli.runs.found_run import FoundRun

logger = logging.getLogger(__name__)


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Follow until the run ends; the exit code is its outcome.")
@click.option("--rank", "ranks", type=click.IntRange(0), multiple=True, help="Only this rank (repeatable).")
@click.option("--all", "all_ranks", is_flag=True, help="All ranks (the default).")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines of each rank.")
@click.option("--since", metavar="TIME", help="Only lines newer than an age (10s, 5m, 2h, 1d) or an ISO time.")
@click.option("--timestamps", is_flag=True, help="Prefix each line with its time (UTC).")
@click.option("--attempt", type=click.IntRange(1), metavar="K", help="Only this attempt.")
@click.option("--previous", is_flag=True, help="Only the attempt before the latest.")
@with_session
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
    session: Session,
) -> None:
    """Print the logs of all ranks, merged by time.

    Attempts are printed one after the other. Once the processes are gone, logs come from the store.
    """
    from cli.backends.base import LogQuery

    if all_ranks and ranks:
        raise click.UsageError("--all and --rank are mutually exclusive")
    if previous and (follow or attempt):
        raise click.UsageError("--previous cannot be combined with --follow or --attempt")
    query = LogQuery(
        follow=follow,
        ranks=ranks or None,
        tail=tail,
        since=parse_since(since) if since else None,
        attempt=attempt,
        previous=previous,
    )
    found = session.find(run)
    if follow:
        if absent := _absent_ranks(found, query):
            logger.warning("%s", absent)
        sys.exit(follow_run(found, query, timestamps=timestamps, to_stderr=False))
    is_empty = True
    for line in read(found, query):
        is_empty = False
        echo(show_line(line, timestamps=timestamps))
    if is_empty and tail != 0:
        logger.warning("%s", _absent_ranks(found, query) or f"run {found.name} has written no lines{_selection(query)}")


def _absent_ranks(found: FoundRun, query: LogQuery) -> str | None:
    """Whether ranks were requested that the run does not have now."""
    from cli.backends.run_status import absent_ranks

    return absent_ranks(found.name, query.ranks or (), found.status.gpus if found.status is not None else None)


def _selection(query: LogQuery) -> str:
    """What ``query`` leaves, for a sentence's end."""
    parts = [f"of rank {', '.join(map(str, query.ranks))}"] if query.ranks else []
    parts += [f"in attempt {query.attempt}"] if query.attempt else []
    parts += ["in an earlier attempt"] if query.previous else []
    parts += [f"since {query.since:%Y-%m-%d %H:%M:%S} UTC"] if query.since else []
    return "".join(f" {part}" for part in parts)


def parse_since(text: str, *, option: str = "--since") -> datetime:
    """The time given to an option: an age (``90s``, ``5m``, ``1h30m``) or an ISO time (local without a zone)."""
    from datetime import UTC, timedelta

    from cli.options.duration import seconds_in

    seconds = seconds_in(text)
    if seconds is not None:
        try:
            return datetime.now(UTC) - timedelta(seconds=seconds)
        except OverflowError:
            # Before the first year: everything is newer.
            return datetime.min.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is neither an age like 5m nor an ISO time", param_hint=option) from error
