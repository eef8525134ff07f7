"""``tspctl fetch-best`` and ``tspctl fetch``: download files of a run."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import click

from cli.output import print_value
from cli.runs.argument import run_argument
from cli.runs.session import Session, with_session
from cli.streams import echo
from tsp.errors import ConfigError

logger = logging.getLogger(__name__)

_CHECKPOINT_SUFFIXES = {".pth", ".pt", ".ckpt", ".bin"}
"""Of files that an earlier fetch may have written; overwritten like any tool's downloads."""

dest_option = click.option(
    "-d", "--dest", type=click.Path(), metavar="DEST", help="Folder or file to write; default: the current folder."
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["path", "json", "yaml"]),
    default="path",
    show_default=True,
    help="Output format.",
)


@click.command("fetch-best")
@run_argument
@dest_option
@click.option(
    "--keep-optimizer/--weights-only",
    default=True,
    show_default=True,
    help="Keep the whole file, or only model, epoch and args (needs torch).",
)
@output_option
@with_session
def fetch_best(run: str, dest: str | None, keep_optimizer: bool, output: str, session: Session) -> None:
    """Download the checkpoint of the best epoch.

    Prints its path. RUN may be a folder of the original scripts (results.txt and epoch files only).
    """
    from cli.runs.comparison import refuse_missing
    from cli.runs.download import fetch_epoch, keep_weights
    from cli.runs.images import keep_images
    from tsp.version import install_command

    if not keep_optimizer and importlib.util.find_spec("torch") is None:
        raise ConfigError(f"--weights-only needs torch: {install_command('train')}, or leave the option out")
    found = session.find(run, only_training=True)
    epochs, failures = found.run.readable_results()
    winner = found.run.best(epochs)
    path = target_file(dest, f"{found.name}-epoch_{winner.epoch}.pth")
    logger.info("best epoch %d, Avg Accuracy %.3f %%", winner.epoch, winner.avg_accuracy_percent)
    fetch_epoch(found.run, winner.epoch, path)
    if not keep_optimizer:
        keep_weights(path)
    _print_paths([path], output, epoch=winner.epoch, avg_accuracy_percent=winner.avg_accuracy_percent)
    keep_images(found.run, found.status)
    refuse_missing(failures, "the fetched checkpoint is the best of the other epochs")


@click.command()
@run_argument
@dest_option
@click.option("--epoch", type=click.IntRange(0), metavar="N", help="The checkpoint of epoch N.")
@click.option("--features", is_flag=True, help="Extracted features.")
@click.option("--logs", "logs", is_flag=True, help="Logs of all ranks and attempts.")
@click.option("--all", "everything", is_flag=True, help="All files of the run.")
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
    """Download an epoch, features, logs, or all files of a run.

    Prints the paths, one per line.
    """
    from cli.runs.download import fetch_epoch, fetch_folder

    if not (features or logs or everything or epoch is not None):
        raise click.UsageError("nothing to fetch: give --epoch N, --features, --logs or --all")
    folder = Path(dest or ".").expanduser()
    if epoch is not None and (features or logs or everything) and _is_file_name(dest):
        raise click.UsageError(f"-d {dest} must be a folder: more than one file is fetched")
    found = session.find(run, only_training=True)
    paths = []
    if epoch is not None:
        path = target_file(dest, f"{found.name}-epoch_{epoch}.pth")
        fetch_epoch(found.run, epoch, path)
        paths.append(path)
    parts = [""] if everything else [part for part, wanted in (("features/", features), ("logs/", logs)) if wanted]
    for part in parts:
        paths += fetch_folder(found.run, part, folder)
    _print_paths(paths, output)


def target_file(dest: str | None, name: str) -> Path:
    """Where a checkpoint goes: DEST if it looks like a file (has a suffix and is no folder), else into the folder DEST.

    Raises: ConfigError if a file of another kind would be overwritten.
    """
    path = Path(dest or ".").expanduser()
    if not _is_file_name(dest):
        return path / name
    if path.suffix.lower() not in _CHECKPOINT_SUFFIXES and path.exists():
        raise ConfigError(
            f"-d {path}: this file exists and its name is not that of a checkpoint, so it is not overwritten"
        )
    return path


def _is_file_name(dest: str | None) -> bool:
    path = Path(dest or ".").expanduser()
    return bool(path.suffix) and not path.is_dir() and not (dest or "").endswith("/")


def _print_paths(paths: list[Path], output: str, **facts: object) -> None:
    if output == "path":
        for path in paths:
            echo(click.format_filename(path))
    else:
        print_value({"paths": [str(path.absolute()) for path in paths], **facts}, output)
