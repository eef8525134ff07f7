"""``tspctl report``: runs side by side on one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from cli.runs.argument import runs_argument
from cli.runs.session import Session, with_session
from cli.streams import echo


@click.command()
@runs_argument
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE.html", help="The page."
)
@with_session
def report(runs: tuple[str, ...], out: Path, session: Session) -> None:
    """Write runs side by side to one HTML page.

    Curves, classes, confusion, differences in configuration, attempts, checkpoints and their digests. The page is one
    file that loads nothing from elsewhere.
    """
    from cli.page.document import document
    from cli.page.facts import run_facts
    from cli.runs.several import find_several
    from tsp.run.records import utc_now
    from tsp.store.atomic import write_atomically
    from tsp.version import version

    several = find_several(session, runs)
    facts = [run_facts(item.found, name=item.name) for item in several]
    if all(item["unreadable"] for item in facts):
        several[0].found.run.results()  # raises what failed
    write_atomically(out, document(facts, made=f"tspctl {version()}, {utc_now()}"))
    echo(out)
