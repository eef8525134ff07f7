"""``tspctl data``: prepare and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.commands._job import job_options, run_job
from cli.commands.download import download
from cli.options.locations import LOCATION
from cli.options.numbers import FiniteRange
from cli.options.recipe import dataset_options, recipe_options
from cli.runs.session import Session, with_session
from cli.streams import echo

COPY_FORMATS = ("mjpeg", "raw")


class _WithOptionalFormat(click.Command):
    """Lets ``--training-copy`` stand without a format (mjpeg); click would take SOURCE for the format."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default format."""
        following = [*args, ""][1:]
        is_bare = [
            word == "--training-copy" and after not in COPY_FORMATS and not after.startswith("-")
            for word, after in zip(args, following, strict=True)
        ]
        words = [f"{word}=mjpeg" if bare else word for word, bare in zip(args, is_bare, strict=True)]
        return super().parse_args(ctx, words)


workers_option = click.option(
    "--workers", type=click.IntRange(0), metavar="N", help="Videos processed in parallel; default: one per core."
)


@click.group()
def data() -> None:
    """Prepare and check data sets.

    Raw videos -> standardize -> probe -> annotate -> check.
    """


@data.command(cls=_WithOptionalFormat)
@click.argument("source", type=LOCATION)
@click.argument("dest", type=LOCATION)
@click.option(
    "--fps", type=FiniteRange(0, 1000, min_open=True), default=30.0, show_default=True, help="Constant frame rate."
)
@click.option(
    "--crf", type=click.IntRange(0, 51), default=23, show_default=True, help="x264 quality (CRF); lower is better."
)
@click.option("--max-height", "max_height_px", type=click.IntRange(16), metavar="PX", help="Scale taller videos down.")
@click.option("--keep-audio", is_flag=True, help="Keep the audio track.")
@click.option(
    "--gop",
    type=click.Choice(("short", "published")),
    default="short",
    show_default=True,
    help="Key frames: short makes random access fast, published is x264's default.",
)
@click.option("--salvage", is_flag=True, help="Keep the decodable parts of damaged videos, and report the gaps.")
@click.option(
    "--training-copy",
    type=click.Choice(COPY_FORMATS),
    is_flag=False,
    flag_value="mjpeg",
    help="Also write a copy for fast training: mjpeg (default) is small, raw is lossless.",
)
@click.option("--overwrite", is_flag=True, help="Overwrite existing outputs.")
@click.option(
    "--shards",
    "num_shards",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Pods that share the videos (cluster only).",
)
@workers_option
@job_options
@with_session
def standardize(session: Session, num_shards: int, **given: Any) -> None:
    """Convert the videos of SOURCE to MP4 files of constant frame rate in DEST.

    Run it again to continue an interrupted conversion. On this machine --workers splits the videos among processes;
    --shards is for clusters.
    """
    run_job(session, "standardize", {}, given, gpus=num_shards)


@data.command()
@click.argument("videos", type=LOCATION)
@click.option("--out", type=LOCATION, metavar="CSV", help="Metadata table to write.")
@workers_option
@job_options
@with_session
def probe(session: Session, **given: Any) -> None:
    """Measure duration, frame rate and frame count of the videos in a folder."""
    run_job(session, "probe", {}, given)


@data.command()
@click.argument("annotations", type=LOCATION)
@click.option("--metadata", type=LOCATION, required=True, metavar="CSV", help="Table that 'data probe' wrote.")
@click.option("--out", type=LOCATION, required=True, metavar="CSV", help="Ground-truth table to write.")
@click.option(
    "--format",
    type=click.Choice(["auto", "thumos14", "activitynet"]),
    default="auto",
    show_default=True,
    help="Format of ANNOTATIONS.",
)
@click.option("--subset", help="Only this subset of the JSON, for example training.")
@click.option(
    "--labels", type=LOCATION, metavar="JSON", help="List of action classes; default: those of the annotations, sorted."
)
@click.option("--labels-out", type=LOCATION, metavar="DIR|PREFIX", help="Folder or path prefix of both label maps.")
@click.option(
    "--json", type=LOCATION, metavar="JSON", help="Annotations for ActionFormer, OpenTAD and TriDet; needs --subset."
)
@click.option("--folder", metavar="NAME", help="Only videos in this folder of the table, for example train.")
@click.option("--filename-prefix", metavar="TEXT", help="Prefix of file names before the video's name, for example v_.")
@click.option(
    "--min-background",
    "min_background_sec",
    type=FiniteRange(0),
    metavar="SEC",
    help="Shortest gap that becomes a background segment; default: the published rule.",
)
@job_options
@with_session
def annotate(session: Session, **given: Any) -> None:
    """Write the ground-truth table, including background segments.

    ANNOTATIONS is the folder of THUMOS14's text files, or a JSON file in ActivityNet's v1-3 format.
    """
    run_job(session, "annotate", {}, given)


@data.command()
@dataset_options
@recipe_options
@click.option("--decode", is_flag=True, help="Decode all videos completely.")
@click.option("--plot", type=LOCATION, metavar="FILE.png", help="Plot the class histogram.")
@job_options
@with_session
def check(session: Session, decode: bool, plot: str | None, **given: Any) -> None:
    """Find what would make a run fail or train wrongly, before it uses a GPU.

    Takes the recipe options of 'tspctl submit'. The exit code is 3 if anything is wrong.
    """
    from cli.options.run_config import build_config
    from tsp.config.codec import to_dict

    job_keys = ("output", "name", "image", "queue", "on_cluster")
    rest = {key: given.pop(key) for key in job_keys}
    backend = session.job_backend("check", on_cluster=rest["on_cluster"])
    config = backend.with_paths(build_config(session.settings, "check", given, needs_store=False), given["dataset"])
    fields = {"config": to_dict(config), "decode": decode, "plot": plot, "workers": given["workers"]}
    run_job(session, "check", fields, rest)


@data.command()
@click.argument("dest", type=LOCATION)
@click.option(
    "--train-videos",
    "num_train_videos",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="Videos to train on.",
)
@click.option(
    "--valid-videos",
    "num_valid_videos",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="Videos to validate on.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed draws the same videos."
)
@job_options
@with_session
def demo(session: Session, dest: str, **given: Any) -> None:
    """Generate the demo data set in DEST: small learnable videos, tables, label maps, GVF."""
    run_job(session, "demo", {"dest": dest}, given)
    echo(f"try: tspctl submit --backend local --dataset demo --method tsp --data {Path(dest)} --follow", err=True)


data.add_command(download)
