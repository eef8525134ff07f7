"""Refuses options that were typed but would have no effect together with another."""

from __future__ import annotations

from collections.abc import Collection

import click
from click.core import ParameterSource

_ALWAYS = frozenset({"help", "verbose", "quiet"})


def typed_options(context: click.Context | None = None) -> dict[str, str]:
    """Options on the command line, as opposed to defaults: keyword argument -> option as its help has it.

    Args: context, default: that of the running command.
    """
    context = click.get_current_context() if context is None else context
    return {
        str(item.name): max(item.opts, key=len)
        for item in context.command.params
        if isinstance(item, click.Option)
        and item.name not in _ALWAYS
        and context.get_parameter_source(str(item.name)) is ParameterSource.COMMANDLINE
    }


def refuse_typed(ignored: Collection[str], why: str, context: click.Context | None = None) -> None:
    """Refuse these options if they were typed.

    Args: ignored, their keyword arguments; why, the end of the sentence.
    Raises: click.UsageError naming them.
    """
    typed = [option for name, option in typed_options(context).items() if name in ignored]
    if typed:
        raise click.UsageError(f"{', '.join(typed)} {'has' if len(typed) == 1 else 'have'} no effect {why}")


def refuse_typed_except(used: Collection[str], why: str, context: click.Context | None = None) -> None:
    """Refuse every typed option but these, as ``refuse_typed``."""
    refuse_typed(typed_options(context).keys() - set(used), why, context)
