"""``tspctl version``."""

from __future__ import annotations

import click

from cli.output import format_option, print_pairs, print_value
from cli.runs.session import Session, with_session


@click.command()
@format_option("table", "json", "yaml")
@with_session
def version(session: Session, output: str) -> None:
    """Show the release, its commit, chart and image.

    Include these lines in bug reports.
    """
    import platform

    from tsp.version import commit
    from tsp.version import version as release

    facts = {
        "tspctl": release(),
        "commit": commit() or "unknown",
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **session.backend.versions(),
    }
    if output == "table":
        print_pairs(list(facts.items()))
    else:
        print_value(facts, output)
