"""Options and arguments that take a path or URI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.types import StringParamType

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Location(StringParamType):
    """Text that the shell completes as a path; a shell that asks click completes nothing of its own accord."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files and folders, found by the shell."""
        return names_or_paths((), incomplete)


LOCATION = Location()


def names_or_paths(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Completions among the names; if none begins so, the one that stands for files and folders."""
    from click.shell_completion import CompletionItem

    return _among(names, incomplete) or [CompletionItem(incomplete, type="file")]


def _among(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_datasets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completions of a data set: the names that are shipped, else files."""
    from tsp.config.recipes import shipped_datasets

    return names_or_paths(shipped_datasets(), incomplete)


def complete_released(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completions of a released checkpoint."""
    from tsp.config.released import PUBLISHED

    return _among(PUBLISHED, incomplete)
