"""Phrases that many messages share."""

from __future__ import annotations

from collections.abc import Sequence


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
