"""Printing results to stdout: tables, JSON, YAML; boxes and colour only on a terminal."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from cli.humanize import show
from cli.streams import echo
from tsp.config.address import masked
from tsp.wording import harmless

logger = logging.getLogger(__name__)

Row = dict[str, Any]

FORMATS = ("table", "json", "yaml")
LEAST_WRAPPED_CHARS = 24
"""Columns are wrapped to no less than this."""
_GAP_CHARS, _EDGES_CHARS = 3, 2
"""What a table draws between two columns, and at its edges."""


def format_option(*formats: str) -> Callable[[Any], Any]:
    """The ``-o`` option; the first format is the default."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def print_value(value: Any, output: str) -> None:
    """Print a result as JSON or YAML. NaN becomes null: JSON has no NaN."""
    # Escapes are valid JSON and YAML in any encoding; a stream's replacement characters are not.
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    if output == "yaml":
        import yaml

        text = yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=is_unicode)
        if harmless(text) != text:  # their escapes are not YAML's
            text = yaml.safe_dump(plain(value), sort_keys=False)
        echo(text, nl=False)
    else:
        text = json.dumps(plain(value), indent=2, ensure_ascii=not is_unicode)
        echo(text if harmless(text) == text else json.dumps(plain(value), indent=2))


def print_rows(rows: Sequence[Row], output: str, *, columns: Sequence[str], first_to_go: Sequence[str] = ()) -> None:
    """Print rows as a table of these columns (keys; shown in capitals), complete as JSON or YAML.

    Args: first_to_go, columns that are left out on a narrow terminal, the least important first.
    """
    if output == "table":
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
    """Print a table: drawn on a terminal, plain columns elsewhere.

    The first column holds a name that other commands need in full, so it is never cut or wrapped. On a narrow terminal
    the other columns wrap; those that still do not fit are left out and named on stderr.

    Args: highlight, index of the row to emphasise; first_to_go, indices of columns in the order in which they are left
        out, by default from the right.
    """
    cells = [[show(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max([len(title), *(len(row[i]) for row in cells)]) for i, title in enumerate(titles)]
        for row in [list(titles), *cells]:
            echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    widths = [max([cell_len(title), *(cell_len(row[i]) for row in cells)]) for i, title in enumerate(titles)]
    # Asked here, since rich takes every dumb terminal (Emacs, CI) for 80 by 25 unless it is given both.
    terminal = shutil.get_terminal_size()
    # A terminal narrower than the name wraps it by itself.
    console = Console(width=max(terminal.columns, widths[0] + _EDGES_CHARS), height=terminal.lines)
    shown = fitting_columns(widths, console.width, first_to_go or range(len(titles) - 1, 0, -1))
    columns = [Column(Text(titles[i]), no_wrap=i == 0, overflow="ignore" if i == 0 else "fold") for i in shown]
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for index, row in enumerate(cells):
        table.add_row(*(Text(row[i]) for i in shown), style="bold green" if index == highlight else None)
    console.print(table)
    # A column without a title is named after its content.
    left_out = [
        title or next((row[i] for row in cells if row[i]), "") for i, title in enumerate(titles) if i not in shown
    ]
    if left_out:
        logger.info("no room for %s: widen the terminal, or use -o json", ", ".join(left_out))


def fitting_columns(widths: Sequence[int], room: int, first_to_go: Iterable[int]) -> list[int]:
    """Indices of the columns that fit into ``room`` characters; the first one always."""
    least = [widths[0], *(min(width, LEAST_WRAPPED_CHARS) for width in widths[1:])]
    shown = list(range(len(widths)))
    for index in first_to_go:
        if sum(least[i] for i in shown) + _GAP_CHARS * (len(shown) - 1) + _EDGES_CHARS <= room:
            break
        shown.remove(index)
    return shown


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A result as CSV; what is unknown is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    echo(text.getvalue(), nl=False)


def print_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Print aligned lines ``name  value``; pairs without a value are left out."""
    shown = [(name, show(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        echo(f"{name.ljust(width)}   {value}")


@contextmanager
def interruption_note(text: str) -> Iterator[None]:
    """Note to print if Ctrl-C ends the block: the state it leaves behind and what to do next."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(text)
        raise


def plain(value: Any) -> Any:
    """As JSON and YAML have it: no NaN, no times, and texts without the secrets of addresses."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return masked(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
