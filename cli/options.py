"""Options that many commands share: where runs live and which store they use."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any

import click

_SHARED = (
    click.option("--backend", type=click.Choice(["kubernetes", "local"]), help="Where runs live."),
    click.option("--store", metavar="URI", help="s3://bucket/prefix or a folder."),
    click.option("--endpoint-url", metavar="URL", help="S3 endpoint as this machine reaches it."),
    click.option("-n", "--namespace", help="Kubernetes namespace."),
    click.option("--context", help="Context of the kubeconfig file."),
    click.option("--kubeconfig", metavar="FILE", help="Kubeconfig file, as kubectl takes it."),
)
COMPLETION_TIMEOUT_SEC = 2.0
SHARED_KEYS = ("backend", "store", "endpoint_url", "namespace", "context", "kubeconfig")


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the shared options, and one ``settings`` that files, environment and they make up."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from cli.settings import load_settings

        given = {key: kwargs.pop(key) for key in SHARED_KEYS}
        settings = load_settings()
        settings = dataclasses.replace(settings, **{k: v for k, v in given.items() if v is not None})
        return command(*args, settings=settings, **kwargs)

    for option in reversed(_SHARED):
        wrapper = option(wrapper)
    return wrapper


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """The RUN argument: a name, or the path or URI of a run's folder."""
    return click.argument("run", metavar="RUN", shell_complete=_complete_runs)(command)


def _complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names of the runs that this machine and the cluster know."""
    from click.shell_completion import CompletionItem

    from cli.local_state import known_runs

    names = [local.name for local in known_runs()] + _names_on_cluster(context.params)
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _names_on_cluster(given: dict[str, Any]) -> list[str]:
    """Runs of the namespace, as far as it tells them within a moment: whoever types waits for them.

    Args: given, options that are on the line already.
    """
    from cli.settings import load_settings
    from k8s.client import Cluster, Where
    from k8s.runs import Runs

    found: list[str] = []

    def ask() -> None:
        # Whatever is wrong, a line that is being typed is no place to say so.
        with contextlib.suppress(Exception):
            settings = load_settings()
            known = {key: given.get(key) or getattr(settings, key) for key in ("context", "kubeconfig", "namespace")}
            if (given.get("backend") or settings.backend) == "kubernetes":
                found.extend(Runs(Cluster(Where(**known))).names())

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(COMPLETION_TIMEOUT_SEC)
    return list(found)
