"""``tspctl data download``: the files that the TSP authors publish for a data set."""

from __future__ import annotations

import click

from cli.humanize import show_size
from cli.options.locations import LOCATION
from cli.output import FORMATS, format_option, print_table, print_value
from cli.runs.session import Session, with_session
from cli.streams import echo
from tsp.config.published_data import PUBLISHED_DATA


@click.command()
@click.argument("dataset", type=click.Choice(list(PUBLISHED_DATA)))
@click.argument("dest", type=LOCATION)
@click.option(
    "--from",
    "source",
    type=LOCATION,
    metavar="DIR|URI",
    help="Clone or mirror of the authors' repository, for machines without internet access.",
)
@click.option("--overwrite", is_flag=True, help="Overwrite files of the same name.")
@format_option(*FORMATS)
@with_session
def download(session: Session, dataset: str, dest: str, source: str | None, overwrite: bool, output: str) -> None:
    """Download the published tables, label maps and global video features of DATASET into DEST.

    DEST is a folder or an s3:// address, as for --data. Files come from a fixed commit of the TSP authors' repository
    and are verified; files that exist already are kept. The videos are not published there.
    """
    from dataclasses import asdict

    from cli.options.store import absolute_unless_uri
    from tsp.store.published import download_dataset

    store = session.open_store(session.store_config(absolute_unless_uri(dest)))
    from_store = None if source is None or source.startswith("http") else absolute_unless_uri(source)
    arrivals = download_dataset(
        dataset,
        store,
        source=from_store or source,
        settings=session.store_config(from_store) if from_store else None,
        overwrite=overwrite,
        arrived=lambda item: echo(f"{item.name}: {item.state}", err=True),
    )
    if output == "table":
        rows = [[item.name, item.state, show_size(item.size_bytes)] for item in arrivals]
        print_table(["FILE", "STATE", "SIZE"], rows)
    else:
        print_value([asdict(item) for item in arrivals], output)
