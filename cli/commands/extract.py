"""``tspctl extract`` and ``tspctl gvf``: features of videos from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cli.commands._job import job_options, run_job
from cli.options.locations import LOCATION
from cli.options.numbers import FiniteRange
from cli.runs.argument import checkpoint_argument
from cli.runs.session import Session, with_session
from tsp.config.backbones import BACKBONES

if TYPE_CHECKING:
    from cli.runs.checkpoint import Checkpoint


def _extraction_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--cache-mib", type=click.IntRange(1), metavar="N", help="Maximum size of the cache, MiB."),
        click.option("--cache-dir", type=LOCATION, metavar="DIR", help="Folder that caches videos read from s3://."),
        click.option("--workers", type=click.IntRange(0), metavar="N", help="Decoding processes per shard."),
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto",
                     show_default=True, help="Precision of the model."),
        click.option("--batch", type=click.IntRange(1), metavar="N", help="Clips per forward pass."),
        click.option("--short-videos", type=click.Choice(["pad", "skip"]), default="pad", show_default=True,
                     help="Videos shorter than one clip: repeat the last frame, or leave them out."),
        click.option("--broken-videos", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
                     help="Videos that cannot be decoded: fail after all others are done, or leave them out."),
        click.option("--backbone", type=click.Choice(list(BACKBONES)),
                     help="Encoder; default: the checkpoint's."),
        click.option("--rate", "rate_fps", type=FiniteRange(0, 1000, min_open=True), default=15.0, show_default=True,
                     help="Frame rate at which clips are sampled."),
        click.option("--clip-frames", "length_frames", type=click.IntRange(1, 10_000), default=16, show_default=True,
                     help="Frames per clip."),
        click.option("--stride", "stride_frames", type=click.IntRange(1, 1_000_000), default=16, show_default=True,
                     help="Frames between the starts of consecutive clips: 16 for ActivityNet, 1 for THUMOS14."),
        click.option("--shards", "--gpus", "num_shards", type=click.IntRange(1), default=1, show_default=True,
                     help="Processes that share the videos, with one GPU each."),
        click.option("--out", type=LOCATION, metavar="H5|DIR",
                     help="Output file, folder or URI; default: features/ of RUN, or the current folder."),
        click.option("--metadata", type=LOCATION, required=True, metavar="CSV", help="Table that 'data probe' wrote."),
        click.option("--data", "videos", type=LOCATION, metavar="URI",
                     help="Folder or s3:// URI of the videos; default: the setting 'data'."),
        click.option("--epoch", type=click.IntRange(0), metavar="N", help="Epoch of RUN; default: its best."),
        checkpoint_argument,
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
    help="One H5 file, or a folder with one .npy file per video.",
)
@click.option(
    "--prefix",
    default="",
    metavar="TEXT",
    help="Prefix to add to video names that lack it: v_ for ActivityNet.",
)
@job_options
@with_session
def extract(session: Session, **given: Any) -> None:
    """Extract the features of all videos, to an H5 file or .npy files.

    The videos are those of the metadata table; the H5 file is keyed by video name. A folder of .npy files also gets
    missing_files.txt, and features.json with the parameters of the extraction; for an H5 file these are in FILE.json.
    RUN|CHECKPOINT is a run (its best epoch is used), a .pth file, an s3:// or https:// address, or a name from 'tspctl
    models list'. Run it again to continue an interrupted extraction.
    """
    _run(session, "extract", given)


@click.command()
@_extraction_options
@click.option("--pool", type=click.Choice(["max", "avg"]), default="max", show_default=True, help="Pooling over time.")
@job_options
@with_session
def gvf(session: Session, **given: Any) -> None:
    """Extract global video features, which TSP's region head needs.

    A GVF is the clip features of a video pooled over time.
    """
    _run(session, "gvf", given)


def _run(session: Session, kind: str, given: dict[str, Any]) -> None:
    from dataclasses import asdict

    from cli.runs.checkpoint import find_checkpoint

    num_shards, epoch = given.pop("num_shards"), given.pop("epoch")
    source = find_checkpoint(session, given["checkpoint"], epoch)
    given["checkpoint"] = source.address
    given["videos"] = given["videos"] or default_videos(session, source)
    if given["out"] is None:
        given["out"] = f"{source.out_stem('features')}-{file_name(given)}"
    fields = {"store": asdict(source.store)} if source.store is not None else {}
    run_job(session, kind, fields, given, gpus=num_shards)


def default_videos(session: Session, source: Checkpoint) -> str:
    """The folder of the videos according to the settings.

    Raises: ConfigError if there is none.
    """
    from tsp.errors import ConfigError

    found = session.settings.data_of(source.dataset)
    if found is None:
        if session.settings.data is not None:
            why = (
                f"{session.settings.data} in the settings contains {{dataset}}, but {source.address} names no data set"
            )
            raise ConfigError(f"no folder of videos: {why}; give --data")
        raise ConfigError("no folder of videos: give --data, or set 'data' in tspctl.toml")
    return found


def file_name(given: dict[str, Any]) -> str:
    """Default name of the H5 file or folder, which describes its content."""
    pool = f"gvf_{given['pool']}-" if "pool" in given else ""
    return f"{pool}stride_{given['stride_frames']}{'' if given.get('format') == 'npy' else '.h5'}"
