"""Options of a run's pods on a cluster, each a shorthand for a chart value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cli.options.duration import Duration

MOST_POD_SEC = 2**31 - 1
"""What the API server takes as activeDeadlineSeconds of a pod; a job with more would be created and never get pods."""

_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpus_per_pod": (
        "--gpus-per-pod",
        {
            "type": click.IntRange(1),
            "metavar": "K",
            "help": "GPUs, and ranks, per pod (default 1); --gpus must be a multiple.",
        },
    ),
    "priority": (
        "--priority",
        {"metavar": "NAME", "help": "PriorityClass; with --queue Kueue's WorkloadPriorityClass."},
    ),
    "deadline_sec": (
        "--deadline",
        {"type": Duration(MOST_POD_SEC), "help": "End the run after this time: 90m, 12h, 2d."},
    ),
    "gang": (
        "--gang",
        {
            "type": click.Choice(["volcano", "coscheduling", "kueue"]),
            "help": "Start all pods or none, with this scheduler (kueue: with --queue).",
        },
    ),
    "job_api": (
        "--job-api",
        {
            "type": click.Choice(["auto", "pytorchjob", "trainjob"]),
            "help": "PyTorchJob (training operator) or TrainJob (Kubeflow Trainer v2); "
            "auto: the one that the cluster serves.",
        },
    ),
    "tolerations": (
        "--toleration",
        {"multiple": True, "metavar": "KEY[=VALUE][:EFFECT]", "help": "Taint that the pods tolerate."},
    ),
    "node_selector": (
        "--node-selector",
        {"multiple": True, "metavar": "KEY=VALUE", "help": "Label that nodes must have."},
    ),
    "pull_secrets": (
        "--image-pull-secret",
        {"multiple": True, "metavar": "NAME", "help": "Secret to pull the image with."},
    ),
    "env": (
        "--env",
        {"multiple": True, "metavar": "NAME=VALUE", "help": "Environment variable of all ranks; not for credentials."},
    ),
    "volumes": ("--volume", {"multiple": True, "metavar": "CLAIM:PATH[:ro]", "help": "Volume claim to mount."}),
}
"""Keyword of a command, and field of ``k8s.pod_options.PodOptions`` -> option, and what click is told of it."""


def pod_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of pods to a command."""
    for key, (option, attributes) in reversed(_OPTIONS.items()):
        command = click.option(option, key, **attributes)(command)
    return command


def take_pod_options(given: dict[str, Any]) -> dict[str, Any]:
    """Their values, removed from a command's keyword arguments."""
    return {key: given.pop(key) for key in _OPTIONS}


def by_option(taken: dict[str, Any]) -> dict[str, Any]:
    """Option as on the command line -> value."""
    return {option: taken[key] for key, (option, _) in _OPTIONS.items()}
