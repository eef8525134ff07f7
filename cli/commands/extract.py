"""``tspctl extract`` and ``tspctl gvf``: features from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli.commands._job import job_options, run_job
from cli.runs.session import Session, with_session
from tsp.config.backbones import BACKBONES

if TYPE_CHECKING:
    from tsp.config.run import StoreConfig


def _extraction_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--cache-mib", type=click.IntRange(1), metavar="N", help="Most MiB of videos in the cache."),
        click.option("--cache-dir", metavar="DIR", help="Cache for videos read from s3://."),
        click.option("--workers", type=click.IntRange(0), metavar="N", help="Decoding processes."),
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto",
                     show_default=True, help="Arithmetic of the model."),
        click.option("--batch", type=click.IntRange(1), metavar="N", help="Clips per forward pass."),
        click.option("--short-videos", type=click.Choice(["pad", "skip"]), default="pad", show_default=True,
                     help="A video shorter than one clip: repeat its last frame, or leave it out."),
        click.option("--broken-videos", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
                     help="Videos that cannot be decoded: fail once all others are done, or leave them out."),
        click.option("--backbone", type=click.Choice(list(BACKBONES)),
                     help="Default: read off the checkpoint."),
        click.option("--rate", "rate_fps", type=float, default=15.0, show_default=True,
                     help="Frames per second of a clip."),
        click.option("--clip-frames", "length_frames", type=click.IntRange(1), default=16, show_default=True,
                     help="Frames per clip."),
        click.option("--stride", "stride_frames", type=click.IntRange(1), default=16, show_default=True,
                     help="Frames between the starts of two clips: 16 for ActivityNet, 1 for THUMOS14."),
        click.option("--shards", "--gpus", "num_shards", type=click.IntRange(1), default=1, show_default=True,
                     help="Processes that share the videos, one GPU each."),
        click.option("--out", metavar="H5|DIR",
                     help="File or URI to write; default: features/ of RUN, for a checkpoint the current folder."),
        click.option("--metadata", required=True, metavar="CSV", help="Table that 'data probe' wrote."),
        click.option("--data", "videos", required=True, metavar="URI", help="Folder or s3:// URI of the videos."),
        click.option("--epoch", type=click.IntRange(0), metavar="N", help="Epoch of RUN; default: its best."),
        click.argument("checkpoint", metavar="RUN|CHECKPOINT"),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@_extraction_options
@click.option(
    "--format",
    type=click.Choice(["h5", "npy"]),
    default="h5",
    show_default=True,
    help="One H5 file, or a folder with a .npy file for each video.",
)
@click.option(
    "--prefix",
    default="",
    metavar="TEXT",
    help="What the names get before the video's, unless they have it: v_ as for ActivityNet.",
)
@job_options
@with_session
def extract(session: Session, **given: Any) -> None:
    """Features of every video, in one H5 file or a .npy file each.

    The file is keyed by video name; the videos are those of the metadata table. A folder of .npy files gets
    missing_files.txt and features.json, which says how they were made; beside an H5 file the same is in FILE.json.
    RUN|CHECKPOINT is a run (its best epoch is taken), a .pth file, an s3:// or https:// address, or a name that
    'tspctl models' lists. An interrupted extraction goes on where it stopped.
    """
    _run(session, "extract", given)


@click.command()
@_extraction_options
@click.option("--pool", type=click.Choice(["max", "avg"]), default="max", show_default=True, help="Over time.")
@job_options
@with_session
def gvf(session: Session, **given: Any) -> None:
    """Global video features, which TSP's region head needs.

    The pool over time of a video's clip features.
    """
    _run(session, "gvf", given)


def _run(session: Session, kind: str, given: dict[str, Any]) -> None:
    from dataclasses import asdict

    num_shards, epoch = given.pop("num_shards"), given.pop("epoch")
    source = find_source(session, given["checkpoint"], epoch)
    given["checkpoint"] = source.address
    if given["out"] is None:
        given["out"] = f"{source.out_stem}-{file_name(given)}"
    fields = {"store": asdict(source.store)} if source.store is not None else {}
    run_job(session, kind, fields, given, gpus=num_shards)


@dataclass(frozen=True, slots=True)
class Source:
    """What RUN|CHECKPOINT means."""

    address: str
    """Path or URI of the checkpoint."""
    out_stem: str
    """Where what is made of it goes unless --out says otherwise: the run's folder, or the current one."""
    store: StoreConfig | None = None
    """The store a run lies in."""


def find_source(session: Session, text: str, epoch: int | None) -> Source:
    """The checkpoint of a file, address or released name, or of a run: its best epoch, or the one asked for.

    Raises: ConfigError, NoSuchRunError, DataError (no epoch yet).
    """
    from dataclasses import replace
    from pathlib import PurePosixPath

    from tsp.config.released import released
    from tsp.errors import ConfigError
    from tsp.run.epochs import is_checkpoint

    if is_checkpoint(text):
        if epoch is not None:
            raise ConfigError(f"--epoch goes with a run, and {text} is a checkpoint")
        return Source(text, PurePosixPath(text).name.partition(".")[0])
    if "_" in text and "/" not in text:  # no run's name has an underscore
        checkpoint = released(text)
        if epoch is not None:
            raise ConfigError(f"--epoch goes with a run, and {text} is a released checkpoint")
        return Source(checkpoint.address(session.settings.models_url), text)
    run = session.find(text).run
    chosen = run.best().epoch if epoch is None else epoch
    return Source(
        address=run.checkpoint_address(chosen),
        out_stem=run.store.address(run.key(f"features/epoch_{chosen}")),
        store=replace(session.store_config(run.store.uri), uri=run.store.uri),
    )


def file_name(given: dict[str, Any]) -> str:
    """Name of the H5 file or folder, which says what is in it."""
    pool = f"gvf_{given['pool']}-" if "pool" in given else ""
    return f"{pool}stride_{given['stride_frames']}{'' if given.get('format') == 'npy' else '.h5'}"
