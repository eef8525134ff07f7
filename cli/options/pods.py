"""Options of a run's pods on a cluster, each a shorthand for a chart value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cli.options.duration import Duration

_OPTIONS = (
    click.option(
        "--gpus-per-pod",
        type=click.IntRange(1),
        metavar="K",
        help="GPUs, and ranks, per pod (default 1); --gpus must be a multiple.",
    ),
    click.option("--priority", metavar="NAME", help="PriorityClass; with --queue Kueue's WorkloadPriorityClass."),
    click.option("--deadline", "deadline_sec", type=Duration(), help="End the run after this time: 90m, 12h, 2d."),
    click.option(
        "--gang",
        type=click.Choice(["volcano", "coscheduling", "kueue"]),
        help="Start all pods or none, with this scheduler (kueue: with --queue).",
    ),
    click.option(
        "--job-api",
        type=click.Choice(["auto", "pytorchjob", "trainjob"]),
        help="PyTorchJob (training operator) or TrainJob (Kubeflow Trainer v2); auto: the one that the cluster serves.",
    ),
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
        help="Environment variable of all ranks; not for credentials.",
    ),
    click.option("--volume", "volumes", multiple=True, metavar="CLAIM:PATH[:ro]", help="Volume claim to mount."),
)
_NAMES = {
    "gpus_per_pod": "--gpus-per-pod",
    "priority": "--priority",
    "deadline_sec": "--deadline",
    "gang": "--gang",
    "job_api": "--job-api",
    "tolerations": "--toleration",
    "node_selector": "--node-selector",
    "pull_secrets": "--image-pull-secret",
    "env": "--env",
    "volumes": "--volume",
}
"""Keyword of a command -> option."""


def pod_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of pods to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_pod_options(given: dict[str, Any]) -> dict[str, Any]:
    """Their values, removed from a command's keyword arguments."""
    return {key: given.pop(key) for key in _NAMES}


def by_option(taken: dict[str, Any]) -> dict[str, Any]:
    """Option as on the command line -> value."""
    return {option: taken[key] for key, option in _NAMES.items()}
