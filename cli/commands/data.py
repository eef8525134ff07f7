"""``tspctl data``: make and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.commands._job import job_options, run_job
from cli.commands.download import download
from cli.options.recipe import dataset_options, recipe_options
from cli.runs.session import Session, with_session

COPY_FORMATS = ("mjpeg", "raw")


class _WithOptionalFormat(click.Command):
    """Where no format follows ``--training-copy``, mjpeg is meant; click would take SOURCE for one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the format out."""
        following = [*args, ""][1:]
        is_bare = [
            word == "--training-copy" and after not in COPY_FORMATS and not after.startswith("-")
            for word, after in zip(args, following, strict=True)
        ]
        words = [f"{word}=mjpeg" if bare else word for word, bare in zip(args, is_bare, strict=True)]
        return super().parse_args(ctx, words)


workers_option = click.option(
    "--workers", type=click.IntRange(0), metavar="N", help="Videos worked on at a time; default: one per core."
)


@click.group()
def data() -> None:
    """Make and check data sets.

    Raw videos -> standardize -> probe -> annotate -> check.
    """


@data.command(cls=_WithOptionalFormat)
@click.argument("source")
@click.argument("dest")
@click.option("--fps", type=float, default=30.0, show_default=True, help="Constant frame rate.")
@click.option("--crf", type=click.IntRange(0, 51), default=23, show_default=True, help="x264 quality; lower is better.")
@click.option("--max-height", "max_height_px", type=click.IntRange(16), metavar="PX", help="Scale down what is higher.")
@click.option("--keep-audio", is_flag=True, help="Keep the sound.")
@click.option(
    "--gop",
    type=click.Choice(("short", "published")),
    default="short",
    show_default=True,
    help="Key frames: short makes clips quick to read at random, published is x264's default.",
)
@click.option("--salvage", is_flag=True, help="Keep what can be decoded of damaged videos, and name the gaps.")
@click.option(
    "--training-copy",
    type=click.Choice(COPY_FORMATS),
    is_flag=False,
    flag_value="mjpeg",
    help="Also write the copy that trains fastest: mjpeg (default) is small, raw exact.",
)
@click.option("--overwrite", is_flag=True, help="Overwrite existing outputs.")
@click.option(
    "--shards", "num_shards", type=click.IntRange(1), default=1, show_default=True, help="Pods that share the videos."
)
@workers_option
@job_options
@with_session
def standardize(session: Session, num_shards: int, **given: Any) -> None:
    """Turn the videos of SOURCE into constant-rate MP4 files in DEST; an interrupted job goes on.

    On this machine --workers shares them among processes instead of --shards.
    """
    run_job(session, "standardize", {}, given, gpus=num_shards)


@data.command()
@click.argument("videos")
@click.option("--out", metavar="CSV", help="Metadata table to write.")
@workers_option
@job_options
@with_session
def probe(session: Session, **given: Any) -> None:
    """Durations, frame rates and true frame counts of the videos in a folder."""
    run_job(session, "probe", {}, given)


@data.command()
@click.argument("annotations")
@click.option("--metadata", required=True, metavar="CSV", help="Table that 'data probe' wrote.")
@click.option("--out", required=True, metavar="CSV", help="Ground-truth table to write.")
@click.option(
    "--format",
    type=click.Choice(["auto", "thumos14", "activitynet"]),
    default="auto",
    show_default=True,
    help="Format of ANNOTATIONS.",
)
@click.option("--subset", help="Only this subset of the JSON, for instance training.")
@click.option("--labels", metavar="JSON", help="List of action classes; default: the annotations' own, sorted.")
@click.option("--labels-out", metavar="DIR|PREFIX", help="Folder for both label maps, or what their paths begin with.")
@click.option("--json", metavar="JSON", help="Annotations for ActionFormer, OpenTAD and TriDet; needs --subset.")
@click.option("--folder", metavar="NAME", help="Only videos in this folder of the table, for instance train.")
@click.option("--filename-prefix", metavar="TEXT", help="What files' names have before the video's, for instance v_.")
@click.option(
    "--min-background",
    "min_background_sec",
    type=float,
    metavar="SEC",
    help="Shortest gap that becomes background; default: the published rule.",
)
@job_options
@with_session
def annotate(session: Session, **given: Any) -> None:
    """Write the ground-truth table, background segments included.

    ANNOTATIONS is the folder of THUMOS14's texts, or a JSON file of ActivityNet's v1-3 shape.
    """
    run_job(session, "annotate", {}, given)


@data.command()
@dataset_options
@recipe_options
@click.option("--decode", is_flag=True, help="Decode every video to its end.")
@click.option("--plot", metavar="FILE.png", help="Draw the class histogram.")
@job_options
@with_session
def check(session: Session, decode: bool, plot: str | None, **given: Any) -> None:
    """Find everything that would make a run fail or train wrongly, before a GPU is booked.

    Takes the options of 'tspctl submit'; ends with exit code 3 if anything is wrong.
    """
    from cli.options.run_config import build_config
    from tsp.config.codec import to_dict

    job_keys = ("output", "name", "image", "queue", "on_cluster", "gpus_per_job")
    rest = {key: given.pop(key) for key in job_keys if key in given}
    backend = session.job_backend("check", on_cluster=rest["on_cluster"])
    config = backend.with_paths(build_config(session.settings, "check", given, needs_store=False), given["dataset"])
    fields = {"config": to_dict(config), "decode": decode, "plot": plot, "workers": given["workers"]}
    run_job(session, "check", fields, rest)


@data.command()
@click.argument("dest")
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
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the same videos again.")
@job_options
@with_session
def demo(session: Session, dest: str, **given: Any) -> None:
    """Draw the demo data set into DEST: small learnable videos, tables, label maps, GVF."""
    run_job(session, "demo", {"dest": dest}, given)
    click.echo(f"try: tspctl submit --backend local --dataset demo --method tsp --data {Path(dest)} --follow", err=True)


data.add_command(download)
