"""``tspctl features``: features in the form that the next code reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.commands._job import job_options, run_job
from cli.runs.session import Session, with_session

if TYPE_CHECKING:
    from tsp.run.feature_set import FeatureSet


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
    """Convert features to another form.

    SOURCE and DEST are each an H5 file (ours, or one that was published) or a folder of .npy files, as a path or an
    s3:// address.
    A folder gets missing_files.txt, and either form a description of what it holds.
    """
    run_job(session, "features", {}, given)


@features.command()
@click.argument("source")
@job_options
@with_session
def info(session: Session, **given: Any) -> None:
    """Describe a set of features.

    How many SOURCE holds, of which size, and how they were made where that is known.
    """
    run_job(session, "features", {}, given)


@features.command()
@click.argument("source")
@click.option(
    "--for",
    "code",
    type=click.Choice(["actionformer", "opentad", "tridet"]),
    required=True,
    help="The code that will read them.",
)
@click.option("--json", "annotations", metavar="JSON", help="Annotations that 'data annotate --json' wrote.")
@click.option("--stride", "stride_frames", type=click.IntRange(1), metavar="N", help="Where SOURCE does not say it.")
@click.option("--clip-frames", type=click.IntRange(1), metavar="N", help="Where SOURCE does not say it.")
@click.option("--rate", "rate_fps", type=float, metavar="FPS", help="Where SOURCE does not say it.")
@with_session
def config(session: Session, source: str, code: str, annotations: str | None, **given: Any) -> None:
    """Print a localisation code's configuration.

    It is the block by which that code reads the features in SOURCE.
    SOURCE is a folder of .npy files that 'extract --format npy' or 'features convert' wrote.
    """
    from cli.options.store import absolute_unless_uri
    from tsp.errors import ConfigError
    from tsp.run.localisation import BLOCKS, numbers_of

    if source.endswith((".h5", ".hdf5")):
        raise ConfigError(f"{code} reads a folder of .npy files: tspctl features convert {source} DIR")
    folder = absolute_unless_uri(source)
    numbers = numbers_of(read_feature_set(session, folder), where=source, **given)
    click.echo(BLOCKS[code](numbers, folder, annotations and absolute_unless_uri(annotations)), nl=False)


def read_feature_set(session: Session, folder: str) -> FeatureSet:
    """What a folder of features says of itself.

    Raises: DataError if it says nothing.
    """
    import json

    from tsp.errors import DataError, MissingKeyError
    from tsp.run.feature_set import DESCRIPTION, FeatureSet

    store = session.open_store(session.store_config(folder))
    where = store.address(DESCRIPTION)
    try:
        return FeatureSet.from_dict(json.loads(store.read(DESCRIPTION)), where=where)
    except MissingKeyError as error:
        raise DataError(f"{folder} has no {DESCRIPTION}: make it with 'tspctl features convert SOURCE DIR'") from error
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
