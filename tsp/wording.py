"""Phrases that many messages share."""

from __future__ import annotations

import re
from collections.abc import Sequence

ACTING = "\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff"
"""Characters, as in a regular expression's brackets, that move the cursor, colour, reorder or cannot be encoded."""
_ACTING = re.compile(rf"(?![\n\t])[{ACTING}]")
COLOURS = re.compile(r"\x1b\[[\d;:]*m")
"""Codes by which programs colour their lines."""


def harmless(text: str) -> str:
    """Text of files, names and servers as it may be sent to a terminal: other control characters than line breaks and
    tabs are escaped, so that they cannot clear the screen, set its title or hide text.
    """
    return _ACTING.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def counted(number: int, noun: str) -> str:
    """``1 video``, ``2 videos``, ``2 batches``."""
    plural = f"{noun}es" if noun.endswith(("ch", "sh", "s", "x")) else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def counted_is(number: int, noun: str) -> str:
    """``1 video is``, ``2 videos are``."""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"


def first_few(names: Sequence[str], most: int = 5) -> str:
    """``a, b, ...``: as many as a line should hold."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def first_and_more(names: Sequence[str], most: int) -> str:
    """``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
