"""The RUN argument and its completion."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import click

COMPLETION_TIMEOUT_SEC = 2.0


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """The RUN argument: a name, or the path or URI of a run's folder."""
    return click.argument("run", metavar="RUN", shell_complete=_complete_runs)(command)


def _complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names of the runs that this machine and the cluster know."""
    from click.shell_completion import CompletionItem

    from cli.backends.local.run_folder import known_runs

    names = [local.name for local in known_runs()] + _names_on_cluster(context.params)
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _names_on_cluster(given: dict[str, Any]) -> list[str]:
    """Runs of the namespace, as far as it tells them within a moment: whoever types waits for them.

    Args: given, options that are on the line already.
    """
    from cli.options.settings import load_settings
    from k8s.client import Cluster, ClusterAddress
    from k8s.runs import Runs

    found: list[str] = []

    def ask() -> None:
        # Whatever is wrong, a line that is being typed is no place to say so.
        with contextlib.suppress(Exception):
            settings = load_settings()
            known = {key: given.get(key) or getattr(settings, key) for key in ("context", "kubeconfig", "namespace")}
            if (given.get("backend") or settings.backend) == "kubernetes":
                found.extend(Runs(Cluster(ClusterAddress(**known))).names())

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(COMPLETION_TIMEOUT_SEC)
    return list(found)
