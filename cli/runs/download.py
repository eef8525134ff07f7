"""Downloads of what a run stored: verified, several files at once."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli.progress import Progress, TotalProgress, transfer_progress
from tsp.errors import ConfigError, DataError, MissingKeyError, StoreError
from tsp.run.stored_run import StoredRun
from tsp.store.atomic import explain_os_error, new_file
from tsp.store.base import Entry, file_name_of

logger = logging.getLogger(__name__)

PARALLEL_FILES = 8

# A separate process, since this one never loads torch. Only plain values and a Namespace are unpickled.
_KEEP_WEIGHTS = """
import argparse, sys, torch
from tsp.errors import StoreError
from tsp.store.sink import Sink
with torch.serialization.safe_globals([argparse.Namespace]):
    checkpoint = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
try:
    with Sink(sys.argv[2]) as file:
        torch.save({key: checkpoint[key] for key in ("model", "epoch", "args") if key in checkpoint}, file)
except StoreError as error:
    print(error)
    sys.exit(error.exit_code)
"""


class StoppedError(Exception):
    """A download is broken off, since the command is."""


def fetch_epoch(run: StoredRun, epoch: int, path: Path) -> None:
    """Download and verify one checkpoint.

    Raises: DataError if the run has no such epoch, naming those it has.
    """
    _make_folder(path.parent)
    with transfer_progress(f"epoch_{epoch}.pth") as progress:
        run.download_epoch(epoch, path, progress, sync=False)


def fetch_folder(run: StoredRun, part: str, folder: Path) -> list[Path]:
    """Download every object of a run under ``part`` into ``folder/<run>/``, several at once. Returns: the files.

    Raises: DataError if there is none; the first failure, after all others are fetched.
    """
    entries = list(run.store.list(f"{run.name}/{part}"))
    if not entries:
        raise DataError(f"run {run.name} has no files under {part or 'its folder'}")
    digests = {f"{run.name}/epoch_{epoch}.pth": record.sha256 for epoch, record in run.epochs().items()}
    paths = {entry.key: folder / file_name_of(entry.key) for entry in entries}
    for parent in {path.parent for path in paths.values()}:
        _make_folder(parent)
    failures: list[StoreError] = []
    stopped = threading.Event()

    def fetch_one(entry: Entry) -> None:
        try:
            run.store.download(
                entry.key,
                paths[entry.key],
                sha256=digests.get(entry.key),
                progress=_unless(stopped, total.of(entry.key)),
                entry=entry,
                sync=False,
            )
        except MissingKeyError:
            # A running run replaces its states and prunes its epochs.
            logger.warning("%s was deleted in the meantime", run.store.address(entry.key))
            del paths[entry.key]
        except StoreError as error:
            failures.append(error)

    # Threads may share an iterator over a list.
    left = iter(entries)

    def take_turns() -> None:
        while not stopped.is_set() and (entry := next(left, None)) is not None:
            fetch_one(entry)

    what = f"{len(entries)} files" if len(entries) > 1 else entries[0].key
    with transfer_progress(what) as progress, ThreadPoolExecutor(PARALLEL_FILES, "fetch") as pool:
        try:
            total = TotalProgress(progress, sum(entry.size_bytes for entry in entries))
            # One task per thread: scheduling thousands of small files one by one would take as long as fetching them.
            for task in [pool.submit(take_turns) for _ in range(PARALLEL_FILES)]:
                task.result()
        finally:
            stopped.set()  # by Ctrl-C before they are through
    if failures:
        for failure in failures[1:]:
            logger.error("%s", failure)
        raise failures[0]
    return list(paths.values())


def _unless(stopped: threading.Event, report: Progress) -> Progress:
    """The callback; once the command is broken off, it breaks off the download, too."""

    def call(done: int, size: int) -> None:
        if stopped.is_set():
            raise StoppedError
        report(done, size)

    return call


def keep_weights(path: Path) -> None:
    """Reduce a checkpoint to model, epoch and args; atomic.

    Raises: DataError if torch cannot read it; StoreError if there is no room for the smaller file.
    """
    with new_file(path) as draft:
        command = [sys.executable, "-P", "-c", _KEEP_WEIGHTS, str(path), str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == StoreError.exit_code:
            raise StoreError(done.stdout.strip())
        if done.returncode:
            words = done.stderr.strip().splitlines() or ["no reason given"]
            raise DataError(f"{path} was downloaded, but its weights could not be extracted: {words[-1]}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(str(explain_os_error(error, folder))) from error
