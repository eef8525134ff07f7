"""The progress of an auxiliary job, from the last log lines of its shards; it is not written to a store."""

from __future__ import annotations

import logging
import re

from cli.backends.base import Backend, LogQuery
from tsp.errors import ClusterError

logger = logging.getLogger(__name__)

LAST_LINES = 20
"""Of each shard, among which is a line of progress, if there has been one: warnings of single videos come between."""
DONE = re.compile(r"INFO (\d+) of (\d+) ([a-z ]+?)(?:,|$)")
"""As extraction, evaluation and the tools for data log it."""


def job_progress(backend: Backend, name: str, *, shards: int | None) -> str | None:
    """``34 of 160 videos``, over all shards that report progress; None if none does, or logs may not be read."""
    newest: dict[int, re.Match[str]] = {}
    try:
        for line in backend.logs(name, LogQuery(tail=LAST_LINES)) or ():
            if found := DONE.match(line.text):
                newest[line.rank] = found
    except ClusterError as error:
        logger.debug("%s", error)
        return None
    if not newest:
        return None
    done, total = (sum(int(found[group]) for found in newest.values()) for group in (1, 2))
    silent = f", in {len(newest)} of {shards} shards" if shards is not None and len(newest) < shards else ""
    return f"{done} of {total} {next(iter(newest.values()))[3]}{silent}"
