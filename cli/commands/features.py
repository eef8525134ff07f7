"""``tspctl features``: features in the format that localisation code reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.commands._job import job_options, run_job
from cli.options.locations import LOCATION
from cli.options.numbers import FiniteRange
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from tsp.run.feature_set import FeatureSet
    from tsp.run.localisation import Numbers


@click.group()
def features() -> None:
    """Convert or describe features."""


@features.command()
@click.argument("source", type=LOCATION)
@click.argument("dest", type=LOCATION)
@click.option(
    "--format", type=click.Choice(["h5", "npy"]), help="Format of DEST; default: h5 if it ends in .h5, else npy."
)
@click.option(
    "--prefix",
    default="",
    metavar="TEXT",
    help="Prefix to add to video names that lack it: v_ for ActivityNet.",
)
@click.option(
    "--resize",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Interpolate each video linearly over time to N features; G-TAD and BMN use 100.",
)
@job_options
@with_session
def convert(session: Session, **given: Any) -> None:
    """Convert features to another format.

    SOURCE and DEST are each an H5 file (ours or the published ones) or a folder of .npy files, as a path or an s3://
    address. Both formats get a description of their content; a folder also gets missing_files.txt.
    """
    run_job(session, "features", {}, given)


@features.command()
@click.argument("source", type=LOCATION)
@job_options
@with_session
def info(session: Session, **given: Any) -> None:
    """Describe features.

    Prints how many SOURCE holds, their size, and the parameters of their extraction where these are known.
    """
    run_job(session, "features", {}, given)


@features.command()
@click.argument("source", type=LOCATION)
@click.option(
    "--for",
    "code",
    type=click.Choice(["actionformer", "opentad", "tridet"]),
    required=True,
    help="Localisation code that will read them.",
)
@click.option(
    "--json", "annotations", type=LOCATION, metavar="JSON", help="Annotations that 'data annotate --json' wrote."
)
@click.option(
    "--stride",
    "stride_frames",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Frames between the starts of clips, if SOURCE does not record it.",
)
@click.option(
    "--clip-frames", type=click.IntRange(1, 10_000), metavar="N", help="Frames per clip, if SOURCE does not record it."
)
@click.option(
    "--rate",
    "rate_fps",
    type=FiniteRange(0, 1000, min_open=True),
    metavar="FPS",
    help="Frame rate of the clips, if SOURCE does not record it.",
)
@click.option(
    "--dimension", type=click.IntRange(1), metavar="N", help="Numbers per feature, if SOURCE does not record it."
)
@with_session
def config(session: Session, source: str, code: str, annotations: str | None, **given: Any) -> None:
    """Print the configuration block for localisation code.

    It makes that code read the features in SOURCE: a folder of .npy files or an H5 file, with its description next to
    it, or only the description. Parameters that a published file does not record must be given as options.
    """
    from cli.options.store import absolute_unless_uri
    from tsp.run.feature_set import set_of
    from tsp.run.localisation import BLOCKS, numbers_of, read_from

    address = absolute_unless_uri(source)
    described = read_feature_set(session, address)
    numbers = numbers_of(described, where=source, **given)
    own = set_of(address) if address.endswith(".json") else address
    folder = read_from(code, own)
    if folder != own:
        echo(f"{code} reads .npy files: make them with 'tspctl features convert {own} {folder}'", err=True)
    truth = None if annotations is None else absolute_unless_uri(annotations)
    _warn_of_paths(code, folder, truth)
    _warn_of_annotations(code, described, numbers, truth)
    echo(BLOCKS[code](numbers, folder, truth), nl=False)


def _warn_of_paths(code: str, folder: str, annotations: str | None) -> None:
    """Warn about files that the localisation code will not find."""
    if folder.startswith("s3://"):
        echo(
            f"warning: {code} reads local files: copy the features with 'tspctl features convert {folder} DIR'",
            err=True,
        )
    if annotations is not None and "://" not in annotations and not Path(annotations).is_file():
        echo(f"warning: there is no file {annotations}: 'tspctl data annotate --json' writes it", err=True)


def _warn_of_annotations(code: str, described: FeatureSet, numbers: Numbers, annotations: str | None) -> None:
    """Warn about annotated videos whose features the localisation code will not find, or not at the right times."""
    from tsp.run.localisation import of_another_rate, without_features

    if annotations is not None and Path(annotations).is_file():
        content = Path(annotations).read_bytes()
        for problem in (without_features(described, content, code), of_another_rate(numbers, content, code)):
            if problem:
                echo(f"warning: {annotations} {problem}", err=True)


def read_feature_set(session: Session, address: str) -> FeatureSet:
    """The description of a set; an empty one for an H5 file without, as others publish them.

    Raises: DataError if there is none in a folder, or it is damaged.
    """
    from tsp.errors import DataError, MissingKeyError
    from tsp.run.feature_set import H5_ENDINGS, FeatureSet, described_by, parse_description

    folder, key = described_by(address)
    store = session.open_store(session.store_config(folder))
    try:
        return parse_description(store.read(key), where=store.address(key)) or FeatureSet()
    except MissingKeyError as error:
        if address.endswith(H5_ENDINGS) and store.exists(address.rpartition("/")[2]):
            return FeatureSet()
        if address.endswith(H5_ENDINGS):
            raise DataError(f"there is no {address}") from error
        hint = "" if address.endswith((".json", *H5_ENDINGS)) else "; 'tspctl features convert SOURCE DIR' writes it"
        raise DataError(f"there is no {store.address(key)}{hint}") from error
