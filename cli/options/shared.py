"""Options of every command: backend, store, cluster."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import click

from cli.options.backend_names import BACKENDS
from cli.options.locations import LOCATION

_OF_CLUSTER = {
    "namespace": click.option("-n", "--namespace", help="Kubernetes namespace."),
    "context": click.option("--context", help="Context of the kubeconfig file."),
    "kubeconfig": click.option("--kubeconfig", type=LOCATION, metavar="FILE", help="Kubeconfig file, as for kubectl."),
}
_SHARED = {
    "backend": click.option("--backend", type=click.Choice(list(BACKENDS)), help="Where runs are executed."),
    "store": click.option("--store", type=LOCATION, metavar="URI", help="Store: s3://bucket/prefix or a folder."),
    "endpoint_url": click.option("--endpoint-url", metavar="URL", help="S3 endpoint for this machine."),
    **_OF_CLUSTER,
}
"""Setting that it overrides -> option."""
SHARED_KEYS, CLUSTER_KEYS = tuple(_SHARED), tuple(_OF_CLUSTER)


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command, which gets the merged ``settings`` in their place.

    It also gets ``given``, the keys of the shared options on the command line.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from cli.options.settings import load_settings

        options = {key: value for key in SHARED_KEYS if (value := kwargs.pop(key)) is not None}
        settings = dataclasses.replace(load_settings(), **options)
        if not BACKENDS[settings.backend].takes_cluster_options and not kwargs.get("on_cluster"):
            _refuse_cluster_options(options, settings.backend)
        return command(*args, settings=settings, given=frozenset(options), **kwargs)

    for option in reversed(_SHARED.values()):
        wrapper = option(wrapper)
    return wrapper


def _refuse_cluster_options(options: dict[str, Any], backend: str) -> None:
    """Refuse cluster options that the backend would ignore.

    Raises: ConfigError.
    """
    from tsp.errors import ConfigError

    for key in CLUSTER_KEYS:
        if key in options:
            raise ConfigError(f"--{key} has no effect with the {backend} backend: add --backend kubernetes")
