"""Options of a run's pods on a cluster, each one line over a value of the chart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option("--priority", metavar="NAME", help="PriorityClass; with --queue Kueue's WorkloadPriorityClass."),
    click.option(
        "--toleration", "tolerations", multiple=True, metavar="KEY[=VALUE][:EFFECT]", help="A taint the pods tolerate."
    ),
    click.option("--node-selector", multiple=True, metavar="KEY=VALUE", help="A label that the pods' nodes must have."),
    click.option("--image-pull-secret", "pull_secrets", multiple=True, metavar="NAME", help="A Secret to pull with."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable of every rank; no credentials."),
    click.option("--volume", "volumes", multiple=True, metavar="CLAIM:PATH[:ro]", help="A claim to mount."),
)
KEYS = ("priority", "tolerations", "node_selector", "pull_secrets", "env", "volumes")
_NAMES = ("--priority", "--toleration", "--node-selector", "--image-pull-secret", "--env", "--volume")


def pod_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of pods."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_pod_options(given: dict[str, Any]) -> dict[str, Any]:
    """Their values, taken out of a command's keywords."""
    return {key: given.pop(key) for key in KEYS}


def by_option(taken: dict[str, Any]) -> dict[str, Any]:
    """As on the command line -> value."""
    return dict(zip(_NAMES, (taken[key] for key in KEYS), strict=True))
