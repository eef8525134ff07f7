"""``tspctl fetch-best`` and ``tspctl fetch``: bring what a run stored onto this machine."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.output import Progress, print_value, transfer_progress
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session

if TYPE_CHECKING:
    from tsp.run.stored_run import StoredRun

logger = logging.getLogger(__name__)

PARALLEL_FILES = 8

# Runs in a process of its own: this side never loads torch. Only plain values and a Namespace are unpickled.
_KEEP_WEIGHTS = """
import argparse, sys, torch
with torch.serialization.safe_globals([argparse.Namespace]):
    checkpoint = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
torch.save({key: checkpoint[key] for key in ("model", "epoch", "args") if key in checkpoint}, sys.argv[2])
"""

dest_option = click.option(
    "-d", "--dest", type=click.Path(), metavar="DEST", help="Folder or file to write; default: the current folder."
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["path", "json", "yaml"]),
    default="path",
    show_default=True,
    help="Format of the result.",
)


@click.command("fetch-best")
@run_argument
@dest_option
@click.option(
    "--keep-optimizer/--weights-only",
    default=True,
    show_default=True,
    help="Keep the file whole, or leave only model, epoch and args (needs torch).",
)
@output_option
@with_session
def fetch_best(run: str, dest: str | None, keep_optimizer: bool, output: str, session: Session) -> None:
    """Download the checkpoint of the best epoch.

    Prints its path. RUN may be a folder of the original scripts (results.txt and epoch files only).
    """
    from tsp.errors import ConfigError

    if not keep_optimizer and importlib.util.find_spec("torch") is None:
        raise ConfigError("--weights-only needs torch: pip install 'tspctl[train]', or fetch the file whole")
    found = session.find(run, only_training=True)
    winner = found.run.best()
    path = target_file(dest, f"{found.name}-epoch_{winner.epoch}.pth")
    logger.info("best epoch %d, Avg Accuracy %.3f %%", winner.epoch, winner.avg_accuracy_percent)
    fetch_epoch(found.run, winner.epoch, path)
    if not keep_optimizer:
        keep_weights(path)
    _print_paths([path], output, epoch=winner.epoch, avg_accuracy_percent=winner.avg_accuracy_percent)


@click.command()
@run_argument
@dest_option
@click.option("--epoch", type=click.IntRange(0), metavar="N", help="The checkpoint of epoch N.")
@click.option("--features", is_flag=True, help="Extracted features.")
@click.option("--logs", "logs", is_flag=True, help="Logs of all ranks and attempts.")
@click.option("--all", "everything", is_flag=True, help="All that the run stored.")
@output_option
@with_session
def fetch(
    run: str,
    dest: str | None,
    epoch: int | None,
    features: bool,
    logs: bool,
    everything: bool,
    output: str,
    session: Session,
) -> None:
    """Download an epoch, features, logs, or everything of a run.

    Prints the paths, one a line.
    """

    if not (features or logs or everything or epoch is not None):
        raise click.UsageError("say what to fetch: --epoch N, --features, --logs or --all")
    found = session.find(run, only_training=True)
    paths = []
    if epoch is not None:
        path = target_file(dest, f"{found.name}-epoch_{epoch}.pth")
        fetch_epoch(found.run, epoch, path)
        paths.append(path)
    folder = Path(dest or ".").expanduser()
    parts = [""] if everything else [part for part, wanted in (("features/", features), ("logs/", logs)) if wanted]
    for part in parts:
        paths += fetch_folder(found.run, part, folder)
    _print_paths(paths, output)


def target_file(dest: str | None, name: str) -> Path:
    """Where a file goes: DEST if it is called like one (a suffix, and no folder), else in the folder DEST."""
    path = Path(dest or ".").expanduser()
    return path if path.suffix and not path.is_dir() and not (dest or "").endswith("/") else path / name


def fetch_epoch(run: StoredRun, epoch: int, path: Path) -> None:
    """Download and verify one checkpoint.

    Raises: DataError if the run has no such epoch, naming those it has.
    """
    _make_folder(path.parent)
    with transfer_progress(f"epoch_{epoch}.pth") as progress:
        run.download_epoch(epoch, path, progress)


def fetch_folder(run: StoredRun, part: str, folder: Path) -> list[Path]:
    """Download every object of a run under ``part`` into ``folder/<run>/``, several at once. Returns: the files.

    Raises: DataError if there is none; the first failure, after all others are fetched.
    """
    from concurrent.futures import ThreadPoolExecutor

    from tsp.errors import DataError, MissingKeyError, StoreError
    from tsp.store.base import Entry, file_name_of

    entries = list(run.store.list(f"{run.name}/{part}"))
    if not entries:
        raise DataError(f"run {run.name} has stored nothing under {part or 'its folder'}")
    digests = {f"{run.name}/epoch_{epoch}.pth": record.sha256 for epoch, record in run.epochs().items()}
    paths = {entry.key: folder / file_name_of(entry.key) for entry in entries}
    for parent in {path.parent for path in paths.values()}:
        _make_folder(parent)
    failures: list[StoreError] = []

    def fetch_one(entry: Entry) -> None:
        try:
            run.store.download(
                entry.key,
                paths[entry.key],
                sha256=digests.get(entry.key),
                progress=total.of(entry.key),
                entry=entry,
                sync=False,
            )
        except MissingKeyError:
            # A run that is at work replaces its states and thins out its epochs.
            logger.warning("%s was deleted meanwhile", run.store.address(entry.key))
            del paths[entry.key]
        except StoreError as error:
            failures.append(error)

    what = f"{len(entries)} files" if len(entries) > 1 else entries[0].key
    with transfer_progress(what) as progress, ThreadPoolExecutor(PARALLEL_FILES, "fetch") as pool:
        total = TotalProgress(progress, sum(entry.size_bytes for entry in entries))
        list(pool.map(fetch_one, entries))
    if failures:
        for failure in failures[1:]:
            logger.error("%s", failure)
        raise failures[0]
    return list(paths.values())


class TotalProgress:
    """Adds up what several transfers report."""

    def __init__(self, report: Progress, total_bytes: int) -> None:
        self._report, self._total_bytes = report, total_bytes
        self._done_bytes: dict[str, int] = {}
        self._sum_bytes = 0
        self._lock = threading.Lock()

    def of(self, key: str) -> Progress:
        """What one of the transfers calls."""

        def report(done_bytes: int, _: int) -> None:
            with self._lock:
                self._sum_bytes += done_bytes - self._done_bytes.get(key, 0)
                self._done_bytes[key] = done_bytes
                self._report(self._sum_bytes, self._total_bytes)

        return report


def keep_weights(path: Path) -> None:
    """Leave only model, epoch and args in a checkpoint; atomic.

    Raises: DataError if torch cannot read it.
    """
    from tsp.errors import DataError
    from tsp.store.atomic import new_file

    with new_file(path) as draft:
        command = [sys.executable, "-P", "-c", _KEEP_WEIGHTS, str(path), str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip().splitlines() or ["no reason given"]
            raise DataError(f"{path} was fetched whole, but its weights could not be taken out: {words[-1]}")


def _make_folder(folder: Path) -> None:
    from tsp.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror}; give another --dest") from error


def _print_paths(paths: list[Path], output: str, **facts: object) -> None:
    if output == "path":
        for path in paths:
            click.echo(click.format_filename(path))
    else:
        print_value({"paths": [str(path.absolute()) for path in paths], **facts}, output)
