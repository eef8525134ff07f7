"""The progress bar below the log of a followed run; only on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.humanize import one_line
from cli.streams import echo

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from tsp.run.stored_run import StoredRun

REFRESH_SEC = 2.0


@contextmanager
def progress_line(run: StoredRun, *, to_stderr: bool) -> Iterator[Callable[[str], None]]:
    """Yields: a function that prints a line, above the progress bar if there is one."""
    if not (sys.stderr.isatty() and (to_stderr or sys.stdout.isatty())):
        yield lambda text: echo(text, err=to_stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=to_stderr, highlight=False)
    words = [TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[speed]}")]
    columns = (words[0], BarColumn(), words[1], TimeRemainingColumn())
    ended = threading.Event()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, speed="")
        watcher = threading.Thread(target=_watch, args=(run, bar, task, ended), daemon=True)
        watcher.start()
        try:
            # Foreign text: [brackets] are not markup, and a.py:100: is not an emoji.
            yield lambda text: console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
        finally:
            ended.set()
            watcher.join(timeout=REFRESH_SEC)


def _watch(run: StoredRun, bar: RichProgress, task: TaskID, ended: threading.Event) -> None:
    """Show the run's progress until ``ended``; failed reads are repeated."""
    from tsp.errors import StoreError

    while not ended.wait(REFRESH_SEC):
        try:
            progress = run.read_progress()
        except StoreError:
            continue
        if progress is not None:
            bar.update(
                task,
                description=one_line(f"epoch {progress.epoch + 1}/{progress.epochs} {progress.phase}"),
                completed=progress.step,
                total=progress.steps or None,
                speed=f"{progress.clips_per_sec:.1f} clips/s",
            )
