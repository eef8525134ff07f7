"""Options of a run's pods on a cluster, each a shorthand for a chart value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option("--priority", metavar="NAME", help="PriorityClass; with --queue Kueue's WorkloadPriorityClass."),
    click.option(
        "--toleration",
        "tolerations",
        multiple=True,
        metavar="KEY[=VALUE][:EFFECT]",
        help="Taint that the pods tolerate.",
    ),
    click.option("--node-selector", multiple=True, metavar="KEY=VALUE", help="Label that nodes must have."),
    click.option(
        "--image-pull-secret",
        "pull_secrets",
        multiple=True,
        metavar="NAME",
        help="Secret to pull the image with.",
    ),
    click.option(
        "--env",
        multiple=True,
        metavar="NAME=VALUE",
        help="Environment variable of all ranks, no credentials.",
    ),
    click.option("--volume", "volumes", multiple=True, metavar="CLAIM:PATH[:ro]", help="Volume claim to mount."),
)
KEYS = ("priority", "tolerations", "node_selector", "pull_secrets", "env", "volumes")
_NAMES = ("--priority", "--toleration", "--node-selector", "--image-pull-secret", "--env", "--volume")


def pod_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of pods to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_pod_options(given: dict[str, Any]) -> dict[str, Any]:
    """Their values, removed from a command's keyword arguments."""
    return {key: given.pop(key) for key in KEYS}


def by_option(taken: dict[str, Any]) -> dict[str, Any]:
    """Option as on the command line -> value."""
    return dict(zip(_NAMES, (taken[key] for key in KEYS), strict=True))
