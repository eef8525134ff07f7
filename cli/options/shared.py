"""Options that many commands share: where runs live and which store they use."""

from __future__ import annotations

import dataclasses
import functools
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
SHARED_KEYS = ("backend", "store", "endpoint_url", "namespace", "context", "kubeconfig")


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the shared options, and one ``settings`` that files, environment and they make up."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from cli.options.settings import load_settings

        given = {key: kwargs.pop(key) for key in SHARED_KEYS}
        settings = load_settings()
        settings = dataclasses.replace(settings, **{k: v for k, v in given.items() if v is not None})
        return command(*args, settings=settings, **kwargs)

    for option in reversed(_SHARED):
        wrapper = option(wrapper)
    return wrapper
