"""What README shows to be typed, for the tests that type it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def section(title: str) -> str:
    """The text under a heading of the second level."""
    return README.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """What the fenced blocks of a language hold."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def console_lines(text: str) -> list[list[str]]:
    """Words of every command line, without comments; lines that end in a backslash go on."""
    lines = "".join(blocks(text, "console")).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ ")]
