"""Progress of transfers, on stderr: one bar on a terminal, one line at the end elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cli.humanize import one_line, show_size

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


@contextmanager
def transfer_progress(what: str) -> Iterator[Progress]:
    """A progress bar on stderr during a transfer; without a terminal, one line at the end."""
    if not sys.stderr.isatty():
        moved = 0

        def remember(done: int, total: int) -> None:
            nonlocal moved
            moved = done

        yield remember
        logger.info("%s: %s", what, show_size(moved))
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(one_line(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class TotalProgress:
    """Sums the progress of parallel transfers."""

    def __init__(self, report: Progress, total_bytes: int) -> None:
        self._report, self._total_bytes = report, total_bytes
        self._done_bytes: dict[str, int] = {}
        self._sum_bytes = 0
        self._lock = threading.Lock()

    def of(self, key: str) -> Progress:
        """The callback of one of the transfers."""

        def report(done_bytes: int, _: int) -> None:
            with self._lock:
                self._sum_bytes += done_bytes - self._done_bytes.get(key, 0)
                self._done_bytes[key] = done_bytes
                self._report(self._sum_bytes, self._total_bytes)

        return report
