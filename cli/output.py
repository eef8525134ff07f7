"""Printing: results to stdout, narration to stderr, colours and boxes only on a terminal."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

FORMATS = ("table", "json", "yaml")
LEAST_WRAPPED_CHARS = 24
"""A column is wrapped to no less than this."""
_GAP_CHARS, _EDGES_CHARS = 3, 2
"""What a table draws between two columns, and at its edges."""


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
    # An escape is valid JSON and YAML in any encoding; what a stream writes for what it lacks is not.
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=is_unicode), nl=False)
    else:
        click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=not is_unicode))


def print_rows(
    rows: Sequence[Row], output: str, *, columns: Sequence[str], name_key: str = "name", first_to_go: Sequence[str] = ()
) -> None:
    """Rows as a table of these columns (keys; shown in capitals), whole as JSON or YAML, or their names alone.

    Args: first_to_go, columns that a narrow terminal does without, the least wanted first.
    """
    if output == "name":
        for row in rows:
            click.echo(row[name_key])
    elif output == "table":
        print_table(
            [column.replace("_", " ").upper() for column in columns],
            [[r.get(c) for c in columns] for r in rows],
            first_to_go=[columns.index(column) for column in first_to_go],
        )
    else:
        print_value(list(rows), output)


def print_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    highlight: int | None = None,
    first_to_go: Sequence[int] = (),
) -> None:
    """A table: drawn on a terminal, plain columns elsewhere.

    The first column names what a row is about; commands need it whole, so it is never cut or wrapped. On a narrow
    terminal others are wrapped, and those for which no room is left are left out and named on stderr.

    Args: highlight, index of the row that stands out; first_to_go, indices of columns in the order in which they are
        left out, by default from the right.
    """
    cells = [[show(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max([len(title), *(len(row[i]) for row in cells)]) for i, title in enumerate(titles)]
        for row in [list(titles), *cells]:
            click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    widths = [max([cell_len(title), *(cell_len(row[i]) for row in cells)]) for i, title in enumerate(titles)]
    # A terminal narrower than a name wraps the name by itself.
    console = Console(width=max(Console().width, widths[0] + _EDGES_CHARS))
    shown = fitting_columns(widths, console.width, first_to_go or range(len(titles) - 1, 0, -1))
    columns = [Column(Text(titles[i]), no_wrap=i == 0, overflow="ignore" if i == 0 else "fold") for i in shown]
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for index, row in enumerate(cells):
        table.add_row(*(Text(row[i]) for i in shown), style="bold green" if index == highlight else None)
    console.print(table)
    left_out = [title for i, title in enumerate(titles) if i not in shown]
    if left_out:
        logger.info("no room for %s: widen the terminal, or use -o json", ", ".join(left_out))


def fitting_columns(widths: Sequence[int], room: int, first_to_go: Iterable[int]) -> list[int]:
    """Indices of the columns that fit into a terminal of ``room`` characters, the first one always."""
    least = [widths[0], *(min(width, LEAST_WRAPPED_CHARS) for width in widths[1:])]
    shown = list(range(len(widths)))
    for index in first_to_go:
        if sum(least[i] for i in shown) + _GAP_CHARS * (len(shown) - 1) + _EDGES_CHARS <= room:
            break
        shown.remove(index)
    return shown


def print_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Lines ``name  value``, aligned; pairs without a value are left out."""
    shown = [(name, show(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name.ljust(width)}   {value}")


def parse_time(text: Any) -> datetime | None:
    """An ISO time, in UTC; None for anything else, which must not hide what it was written beside."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


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
    """A progress bar on stderr while bytes move; off a terminal one line at the end."""
    if not sys.stderr.isatty():
        moved = 0

        def remember(done: int, total: int) -> None:
            nonlocal moved
            moved = done

        yield remember
        logger.info("%s: %s", what, show_size(moved))
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def interruption_note(text: str) -> Iterator[None]:
    """What to say, if Ctrl-C ends the block, of the work that it was in the middle of."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(text)
        raise


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
