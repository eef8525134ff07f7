"""Printing: results to stdout, narration to stderr, colours and boxes only on a terminal."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

FORMATS = ("table", "json", "yaml")
LINE_EVERY_PERCENT = 10
"""Off a terminal a download says a line at each of these steps."""


def format_option(*formats: str) -> Callable[[Any], Any]:
    """The ``-o`` option with these formats, the first one by default."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Format of the result.",
    )


def print_value(value: Any, output: str) -> None:
    """A result as JSON or YAML. NaN becomes null: JSON knows no NaN."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Row], output: str, *, columns: Sequence[str], name_key: str = "name") -> None:
    """Rows as a table of these columns (keys; shown in capitals), whole as JSON or YAML, or their names alone."""
    if output == "name":
        for row in rows:
            click.echo(row[name_key])
    elif output == "table":
        print_table(
            [column.replace("_", " ").upper() for column in columns], [[r.get(c) for c in columns] for r in rows]
        )
    else:
        print_value(list(rows), output)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[Any]], *, highlight: int | None = None) -> None:
    """A table: drawn on a terminal, plain columns elsewhere. Args: highlight, index of the row that stands out."""
    cells = [[show(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max([len(title), *(len(row[i]) for row in cells)]) for i, title in enumerate(titles)]
        for row in [list(titles), *cells]:
            click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False)
    for index, row in enumerate(cells):
        table.add_row(*(Text(cell) for cell in row), style="bold green" if index == highlight else None)
    Console().print(table)


def print_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Lines ``name  value``, aligned; pairs without a value are left out."""
    shown = [(name, show(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name.ljust(width)}   {value}")


def show(value: Any) -> str:
    """A cell: ``-`` for nothing, numbers without noise, times as ages."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, datetime):
        return show_duration((datetime.now(UTC) - value).total_seconds()) + " ago"
    return str(value)


def show_duration(seconds: float) -> str:
    """``45s``, ``12m30s``, ``3h05m``, ``2d04h``."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def show_size(size_bytes: float) -> str:
    """``512 B``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


@contextmanager
def transfer_progress(what: str) -> Iterator[Progress]:
    """A progress bar on stderr while bytes move; off a terminal a line every ten percent."""
    if not sys.stderr.isatty():
        yield _progress_lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _progress_lines(what: str) -> Progress:
    said = -1

    def report(done: int, total: int) -> None:
        nonlocal said
        step = 100 * done // max(total, 1) // LINE_EVERY_PERCENT
        if step > said and total:
            said = step
            logger.info("%s: %d%% of %s", what, step * LINE_EVERY_PERCENT, show_size(total))

    return report


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
