"""Log lines of a run: from its backend while available, then from its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cli.backends.base import LogLine, LogQuery
from cli.runs.found_run import FoundRun
from cli.streams import echo
from tsp.config.address import masked
from tsp.run.stored_run import StoredRun
from tsp.wording import COLOURS, harmless

STORE_POLL_SEC = 5.0
END_TIMEOUT_SEC = 120.0
"""How long to wait for the outcome once the log has ended."""


def follow_run(found: FoundRun, query: LogQuery, *, timestamps: bool, to_stderr: bool) -> int:
    """Print lines until the run has ended. Returns: the exit code of its outcome.

    Ctrl-C stops following, not the run.
    """
    from cli.runs.outcome import outcome_code, through_outages, wait_for_end
    from cli.runs.progress_line import progress_line

    try:
        with progress_line(found.run, to_stderr=to_stderr) as write:
            for line in through_outages(lambda: read(found, query)):
                write(show_line(line, timestamps=timestamps))
    except KeyboardInterrupt:
        echo(
            f"\nno longer following; the run continues: 'tspctl logs -f {found.name}' follows it again, "
            f"'tspctl cancel {found.name}' stops it",
            err=True,
        )
        raise
    # The log has ended; a server that is unreachable just now is asked again.
    state, reason = wait_for_end(found, timeout_sec=END_TIMEOUT_SEC)
    echo(f"run {found.name}: {state}" + (f": {reason}" if reason else ""), err=True)
    return outcome_code(state)


def read(found: FoundRun, query: LogQuery) -> Iterator[LogLine]:
    """Lines from the backend, or from the store once the backend has none."""
    if found.backend is not None and found.status is not None:
        lines = found.backend.logs(found.name, query)
        if lines is not None:
            return lines
    from cli.backends.log_lines import read_lines

    ended = _ended_by_store(found) if query.follow else None
    return read_lines(StoreLogs(found.run), query, ended=ended, poll_sec=STORE_POLL_SEC)


def _ended_by_store(found: FoundRun) -> Callable[[], bool]:
    from cli.runs.outcome import has_ended

    return lambda: has_ended(found)


class StoreLogs:
    """The logs that ranks uploaded to the store."""

    def __init__(self, run: StoredRun) -> None:
        self.run = run

    def attempts(self) -> list[int]:
        return self.run.attempts()

    def ranks(self, attempt: int) -> list[int]:
        return self.run.ranks(attempt)

    def read(self, attempt: int, rank: int, offset_bytes: int) -> bytes:
        from cli.backends.log_lines import CHUNK_BYTES

        key = self.run.log_key(attempt, rank)
        return self.run.store.read(key, offset_bytes=offset_bytes, size_bytes=CHUNK_BYTES)

    def size_bytes(self, attempt: int, rank: int) -> int:
        from tsp.errors import MissingKeyError

        try:
            return self.run.store.stat(self.run.log_key(attempt, rank)).size_bytes
        except MissingKeyError:
            return 0


def show_line(line: LogLine, *, timestamps: bool) -> str:
    """``[rank 0] text``, with ``timestamps`` the time in front."""
    prefix = f"[rank {line.rank}] "
    if timestamps:
        prefix = (line.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if line.time else "-".ljust(27)) + " " + prefix
    return prefix + harmless(masked(COLOURS.sub("", line.text)))
