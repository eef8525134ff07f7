"""The RUN and RUN|CHECKPOINT arguments and their completion."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import click

from cli.options.locations import names_or_paths

COMPLETION_TIMEOUT_SEC = 2.0


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the RUN argument: a name, or the path or URI of a run's folder."""
    return click.argument("run", metavar="RUN", shell_complete=complete_runs)(command)


def runs_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the RUN... argument: one or more of what RUN takes."""
    return click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_runs)(command)


def checkpoint_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the RUN|CHECKPOINT argument: what RUN takes, or a checkpoint's path, URI or released name."""
    return click.argument("checkpoint", metavar="RUN|CHECKPOINT", shell_complete=complete_runs)(command)


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Completions of a run: names that are known, else files."""
    return names_or_paths(dict.fromkeys(_known_names(context.params)), incomplete)


def _known_names(given: dict[str, Any]) -> list[str]:
    """Names from the backends that answer in time: the user is waiting at the prompt.

    Args: given, options already on the command line.
    """
    from cli.backends.open import open_backends
    from cli.options.settings import load_settings
    from cli.options.shared import SHARED_KEYS
    from cli.stores import Stores

    found: list[str] = []

    def ask() -> None:
        # An error message would appear in the middle of the line that is being typed.
        with contextlib.suppress(Exception):
            known = {key: value for key in SHARED_KEYS if (value := given.get(key)) is not None}
            for backend in open_backends(dataclasses.replace(load_settings(), **known), Stores()):
                found.extend(backend.names())

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(COMPLETION_TIMEOUT_SEC)
    return list(found)
