"""Refuses empty options and arguments, which mostly come from an unset shell variable.

Otherwise ``--store "$STORE"`` would silently mean the default store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def refuse_empty_values(command: click.Command) -> None:
    """Make a command refuse empty texts where they mean nothing; a prefix may be empty."""
    for item in command.params:
        if not (item.name or "").endswith("prefix"):
            item.type_cast_value = _refusing(item, item.type_cast_value)  # type: ignore[assignment,method-assign]


def _refusing(item: click.Parameter, cast: Callable[[click.Context, Any], Any]) -> Callable[[click.Context, Any], Any]:
    """Before the conversion, which makes a folder's empty name the current one."""

    def checked(context: click.Context, value: Any) -> Any:
        texts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(text, str) and not text.strip() for text in texts):
            raise click.BadParameter("the value is empty: is a shell variable unset?", context, item)
        return cast(context, value)

    return checked
