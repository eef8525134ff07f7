"""``tspctl doctor`` and ``tspctl completion``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cli.options.locations import LOCATION
from cli.output import FORMATS, format_option, print_rows
from cli.runs.session import Session, with_session
from cli.streams import echo

if TYPE_CHECKING:
    from tsp.run.status import Finding


@click.command()
@click.option(
    "--data", type=LOCATION, metavar="URI", help="Also check that this data set (folder or s3:// URI) can be read."
)
@format_option(*FORMATS)
@with_session
def doctor(output: str, data: str | None, session: Session) -> None:
    """Check this machine, the store and the cluster.

    The exit code is 1 if anything is wrong.
    """
    from dataclasses import asdict

    findings = list(examine(session, data))
    print_rows([asdict(finding) for finding in findings], output, columns=("what", "level", "message"))
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(1)


def examine(session: Session, data: str | None) -> Iterator[Finding]:
    """Findings about this machine, the store, the data set at ``data`` (None: none) and the backend."""
    import platform

    from tsp.errors import TspError
    from tsp.run.status import Finding

    yield Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield from _examine_settings()
    yield _examine_store(session)
    if data is not None:
        yield _examine_data(session, data)
    backend = session.backend
    try:
        yield from backend.diagnose()
    except TspError as error:
        yield Finding(backend.name, "error", str(error))


def _examine_settings() -> Iterator[Finding]:
    import os

    from cli.options.settings import settings_files
    from tsp.run.status import Finding

    used = [str(path) for path in settings_files(os.environ) if path.exists()]
    yield Finding("settings", "ok", ", ".join(used) or "no settings file; built-in defaults and TSPCTL_* variables")


def _examine_store(session: Session) -> Finding:
    from cli.humanize import show_size
    from tsp.errors import TspError
    from tsp.run.status import Finding
    from tsp.store.base import free_bytes

    try:
        store = session.store
        store.check_writable()
    except TspError as error:
        return Finding("store", "error", str(error))
    free = free_bytes(store)
    return Finding("store", "ok", f"{store.uri} is writable" + ("" if free is None else f", {show_size(free)} free"))


def _examine_data(session: Session, address: str) -> Finding:
    """Whether there is anything at the address of a data set; ``data check`` checks what it is."""
    from cli.options.store import absolute_unless_uri
    from tsp.errors import TspError
    from tsp.run.status import Finding

    try:
        folder = session.open_store(session.store_config(absolute_unless_uri(address)))
        num_files = sum(1 for _ in folder.list_folders()) or sum(1 for _ in folder.list())
    except TspError as error:
        return Finding("data", "error", str(error))
    if not num_files:
        return Finding("data", "error", f"{address} does not exist or is empty: see 'tspctl data --help'")
    return Finding("data", "ok", f"{folder.uri} is readable")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell completion script.

    Usage: eval "$(tspctl completion bash)"
    """
    from click.shell_completion import get_completion_class

    from cli.main import tspctl

    complete = get_completion_class(shell)
    assert complete is not None
    echo(complete(tspctl, {}, "tspctl", "_TSPCTL_COMPLETE").source())
