"""``tspctl features``: features in the form that the next code reads."""

from __future__ import annotations

from typing import Any

import click

from cli.commands._job import job_options, run_job
from cli.runs.session import Session, with_session


@click.group()
def features() -> None:
    """Convert features, or say what they are."""


@features.command()
@click.argument("source")
@click.argument("dest")
@click.option("--format", type=click.Choice(["h5", "npy"]), help="Default: h5 if DEST ends in .h5, else npy.")
@click.option(
    "--prefix",
    default="",
    metavar="TEXT",
    help="What the names get before the video's, unless they have it: v_ as for ActivityNet.",
)
@click.option(
    "--resize",
    type=click.IntRange(1),
    metavar="N",
    help="Interpolate every video linearly over time to N features, as for G-TAD and BMN (100).",
)
@job_options
@with_session
def convert(session: Session, **given: Any) -> None:
    """Write the features in SOURCE to DEST in another form.

    Each of them is an H5 file (ours, or one that was published), or a folder of .npy files; a path or s3:// address.
    A folder gets missing_files.txt, and either form a description of what it holds.
    """
    run_job(session, "features", {}, given)


@features.command()
@click.argument("source")
@job_options
@with_session
def info(session: Session, **given: Any) -> None:
    """Say what features SOURCE holds: how many, of which size, and how they were made where that is known."""
    run_job(session, "features", {}, given)
