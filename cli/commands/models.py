"""``tspctl models``: published checkpoints by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cli.humanize import show_size
from cli.options.ignored import refuse_typed_except
from cli.options.locations import LOCATION, complete_released
from cli.output import FORMATS, format_option, print_table, print_value
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from tsp.config.backbones import PublishedWeights
    from tsp.config.released import Released
    from tsp.config.store import StoreConfig

REQUESTS_AT_A_TIME = 8


def _list_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        format_option(*FORMATS),
        click.option("--sizes", is_flag=True, help="Also look up the sizes of checkpoints that are not cached."),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_list_options
@with_session
@click.pass_context
def models(context: click.Context, session: Session, sizes: bool, output: str) -> None:
    """List or download released checkpoints.

    evaluate, extract, gvf, --pretrained and --resume accept their names. The setting models_url names a mirror, which
    also serves the initial weights that --pretrained default means.
    """
    if context.invoked_subcommand is None:
        _show(session, output, sizes=sizes)
    else:
        # Each subcommand has options of its own; these would be read by nobody.
        refuse_typed_except((), f"before {context.invoked_subcommand}: give it after that", context)


@models.command("list")
@_list_options
@with_session
def list_command(session: Session, sizes: bool, output: str) -> None:
    """List released checkpoints, and whether they are cached on this machine."""
    _show(session, output, sizes=sizes)


@models.command()
@click.argument("name", shell_complete=complete_released)
@click.option(
    "--to",
    "dest",
    type=LOCATION,
    metavar="DIR|URI",
    help="Also copy it there, as a mirror for machines without internet access.",
)
@with_session
def pull(session: Session, name: str, dest: str | None) -> None:
    """Download and verify a released checkpoint, and print its path."""
    from cli.options.store import absolute_unless_uri
    from tsp.config.released import published
    from tsp.store.base import sha256_of
    from tsp.store.fetch import cached_release, fetch_object

    item = published(name)
    address = item.address(session.settings.models_url)
    path = fetch_object(address, cached_release(item.file).parent, settings=_reach(session, address))
    if dest is None:
        echo(path)
        return
    store = session.open_store(session.store_config(absolute_unless_uri(dest)))
    store.upload(item.file, path, sha256=sha256_of(path))
    echo(store.address(item.file))


def _reach(session: Session, address: str) -> StoreConfig | None:
    return session.store_config(address.rpartition("/")[0]) if address.startswith("s3://") else None


def _show(session: Session, output: str, *, sizes: bool) -> None:
    from tsp.config.released import INITIAL, RELEASED

    rows = [
        {"name": name, "backbone": item.backbone, "method": item.method, "dataset": item.dataset, "gvf": item.gvf,
         **_where(session, item)}
        for name, item in RELEASED.items()
    ]  # fmt: skip
    rows += [
        {"name": name, "backbone": name.removesuffix("-initial"), "method": None, "dataset": None, "gvf": None,
         **_where(session, item)}
        for name, item in INITIAL.items()
    ]  # fmt: skip
    if sizes:
        _ask_sizes(session, rows)
    if output != "table":
        print_value(rows, output)
        return
    titles = ["NAME", "BACKBONE", "METHOD", "DATASET", "GVF", "SIZE", "CACHED", "ADDRESS"]
    print_table(titles, [
        [row["name"], row["backbone"], row["method"], row["dataset"], row["gvf"],
         None if row["size_bytes"] is None else show_size(row["size_bytes"]), "yes" if row["cached"] else "no",
         row["address"]]
        for row in rows
    ])  # fmt: skip


def _where(session: Session, item: Released | PublishedWeights) -> dict[str, Any]:
    from tsp.store.fetch import cached_release

    path = cached_release(item.file)
    cached = path.is_file()
    return {
        "size_bytes": path.stat().st_size if cached else None,
        "cached": cached,
        "address": item.address(session.settings.models_url),
    }


def _ask_sizes(session: Session, rows: list[dict[str, Any]]) -> None:
    """Look up unknown sizes; failures are reported once."""
    from concurrent.futures import ThreadPoolExecutor

    from tsp.errors import TspError
    from tsp.store.fetch import size_of

    def ask(row: dict[str, Any]) -> TspError | None:
        try:
            row["size_bytes"] = size_of(row["address"], _reach(session, row["address"]))
        except TspError as error:
            return error
        return None

    with ThreadPoolExecutor(REQUESTS_AT_A_TIME) as pool:
        failed = list(filter(None, pool.map(ask, [row for row in rows if row["size_bytes"] is None])))
    if failed:
        from tsp.wording import counted_is

        echo(f"warning: {counted_is(len(failed), 'size')} unknown: {failed[0]}", err=True)
