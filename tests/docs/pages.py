"""The console blocks of README and documentation: what they type, what they show, and who runs them.

A comment above a block says so in the page's source: ``<!-- run on a cluster -->``, ``<!-- run by FILE -->`` (a test or
workflow), ``<!-- not run: REASON -->``. Without one a block is run on one machine.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("CONTRIBUTING.md", "charts/tsp/README.md", "image/README.md", "k8s/README.md")),
    ROOT / "tests/e2e/README.md",
]
ONE_MACHINE, CLUSTER = "one machine", "run on a cluster"
_BLOCK = re.compile(r"(?:^<!-- (?P<mark>(?:not )?run\b[^>]*) -->\n+)?^```console\n(?P<text>.*?)^```", re.M | re.S)


@dataclass(frozen=True)
class Line:
    """A line that is typed, and what is shown below it."""

    text: str
    shown: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """As a shell splits it, without its comment."""
        return shlex.split(self.text, comments=True)


@dataclass(frozen=True)
class Block:
    """A console block."""

    page: str
    number: int
    mark: str
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        return f"{self.page}, block {self.number}"


def blocks() -> list[Block]:
    """All of them, page by page."""
    return [block for page in PAGES for block in blocks_of(page.read_text(), str(page.relative_to(ROOT)))]


def blocks_of(text: str, page: str) -> list[Block]:
    """Those of one page's text."""
    found = enumerate(_BLOCK.finditer(text), start=1)
    return [Block(page, number, match["mark"] or ONE_MACHINE, lines_of(match["text"])) for number, match in found]


def section(title: str) -> str:
    """What README has under a heading of the second level."""
    return (ROOT / "README.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def words_of(text: str) -> list[list[str]]:
    """Every line that a text has typed, as a shell splits it."""
    return [line.words for block in blocks_of(text, "README.md") for line in block.lines]


def lines_of(text: str) -> tuple[Line, ...]:
    """What is typed follows ``$``, over several lines where they end in a backslash; the rest is shown."""
    lines: list[Line] = []
    for row in text.replace("\\\n", " ").splitlines():
        if row.startswith("$ "):
            lines.append(Line(row[2:]))
        elif row.strip():
            last = lines.pop()
            lines.append(Line(last.text, (*last.shown, row)))
    return tuple(lines)


def pattern_of(shown: str) -> re.Pattern[str]:
    """What a line of output has to look like: numbers stand for any number, ``...`` for anything."""
    words = [re.escape(word).replace(r"\.\.\.", ".*") for word in shown.split()]
    return re.compile(r"\s+".join(re.sub(r"\d+(\\\.\d+)?", r"\\d+(?:\\.\\d+)?", word) for word in words))


def missing(shown: tuple[str, ...], output: str) -> list[str]:
    """Shown lines that are not in the output, in this order; a line of ``...`` stands for any number of them."""
    rows = iter(output.splitlines())
    return [line for line in shown if line.strip() != "..." and not any(pattern_of(line).search(row) for row in rows)]
