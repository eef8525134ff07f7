"""``tspctl models``: released checkpoints by name."""

from __future__ import annotations

import click

from cli.humanize import show_size
from cli.output import FORMATS, format_option, print_table, print_value
from cli.runs.session import Session, with_session


@click.group(invoke_without_command=True)
@format_option(*FORMATS)
@with_session
@click.pass_context
def models(context: click.Context, session: Session, output: str) -> None:
    """List or download released checkpoints.

    extract, gvf, --pretrained and --resume accept their names. The setting models_url names a mirror.
    """
    if context.invoked_subcommand is None:
        _show(session, output)


@models.command("list")
@format_option(*FORMATS)
@with_session
def list_command(session: Session, output: str) -> None:
    """List released checkpoints, and whether they are cached on this machine."""
    _show(session, output)


@models.command()
@click.argument("name")
@click.option(
    "--to", "dest", metavar="DIR|URI", help="Also copy it there, as a mirror for machines without internet access."
)
@with_session
def pull(session: Session, name: str, dest: str | None) -> None:
    """Download and verify a released checkpoint, and print its path."""
    from cli.options.store import absolute_unless_uri
    from tsp.config.released import released
    from tsp.store.base import sha256_of
    from tsp.store.fetch import cached_release, fetch_object

    checkpoint = released(name)
    address = checkpoint.address(session.settings.models_url)
    settings = session.store_config(address.rpartition("/")[0]) if address.startswith("s3://") else None
    path = fetch_object(address, cached_release(checkpoint.file).parent, settings=settings)
    if dest is None:
        click.echo(path)
        return
    store = session.open_store(session.store_config(absolute_unless_uri(dest)))
    store.upload(checkpoint.file, path, sha256=sha256_of(path))
    click.echo(store.address(checkpoint.file))


def _show(session: Session, output: str) -> None:
    from tsp.config.released import RELEASED
    from tsp.store.fetch import cached_release

    rows = []
    for name, item in RELEASED.items():
        path = cached_release(item.file)
        cached = path.is_file()
        rows.append({
            "name": name, "backbone": item.backbone, "method": item.method, "dataset": item.dataset, "gvf": item.gvf,
            "size_bytes": path.stat().st_size if cached else None, "cached": cached,
            "address": item.address(session.settings.models_url),
        })  # fmt: skip
    if output != "table":
        print_value(rows, output)
        return
    titles = ["NAME", "BACKBONE", "METHOD", "DATASET", "GVF", "CACHED", "ADDRESS"]
    print_table(titles, [
        [row["name"], row["backbone"], row["method"], row["dataset"], row["gvf"],
         show_size(int(str(row["size_bytes"]))) if row["cached"] else "no", row["address"]]
        for row in rows
    ])  # fmt: skip
