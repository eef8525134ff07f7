"""Everyday options of pods in a line each, and the chart's values that they set. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k8s.names import QUEUE_PRIORITY_LABEL
from tsp.config.address import check_variable
from tsp.config.codec import set_dotted
from tsp.errors import ConfigError

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_OWN_TOLERATIONS = ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},)
"""The chart's default, which a list of values replaces as a whole."""
_KUEUE_DEADLINE = "kueue.x-k8s.io/max-exec-time-seconds"
_LABEL = r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)"
_SUBDOMAIN = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_KEY = re.compile(rf"({_SUBDOMAIN}/)?{_LABEL}")
_VALUE = re.compile(rf"{_LABEL}?")
_NAME = re.compile(_SUBDOMAIN)
"""What Kubernetes takes as key and value of labels and taints, and as the name of an object. Nobody looks at those in
the template of a pod until the pod is made.
"""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_OWN_VARIABLES = re.compile(r"RANK|WORLD_SIZE|LOCAL_RANK|MASTER_(ADDR|PORT)|PET_.*|TSP_.*|HOME|CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True, kw_only=True, slots=True)
class PodOptions:
    """As typed."""

    priority: str | None = None
    """A PriorityClass, or Kueue's WorkloadPriorityClass where there is a queue."""
    gpus_per_pod: int | None = None
    deadline_sec: int | None = None
    """In a queue Kueue counts only the time that the run is admitted."""
    gang: str | None = None
    """``volcano``, ``coscheduling`` or ``kueue``."""
    job_api: str | None = None
    """``pytorchjob`` or ``trainjob``; ``auto`` and None: what the cluster serves."""
    tolerations: tuple[str, ...] = ()
    """``KEY[=VALUE][:EFFECT]``, as ``kubectl taint`` writes a taint."""
    node_selector: tuple[str, ...] = ()
    """``KEY=VALUE``."""
    pull_secrets: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """``NAME=VALUE``."""
    volumes: tuple[str, ...] = ()
    """``CLAIM:PATH`` or ``CLAIM:PATH:ro``."""


def with_pod_options(
    values: Mapping[str, Any], options: PodOptions, *, assignments: Sequence[str] = ()
) -> dict[str, Any]:
    """Values of the chart with the options over them; lists are added to.

    Args: assignments, ``KEY=VALUE`` that Helm lays over the values: it replaces the items of a list.
    Raises: ConfigError naming the option.
    """
    _refuse_doubly_set_lists(options, assignments)
    merged: dict[str, Any] = json.loads(json.dumps(values))
    if options.gang == "kueue" and not merged.get("queue"):
        raise ConfigError("--gang kueue needs --queue with the name of a Kueue queue")
    if options.priority:
        _check("--priority", options.priority, _NAME, "the name of a class")
        _set_for_queue(merged, QUEUE_PRIORITY_LABEL, "priorityClassName", options.priority)
    if options.deadline_sec:
        _set_for_queue(merged, _KUEUE_DEADLINE, "runPolicy.activeDeadlineSeconds", options.deadline_sec)
    for key, value in (("gpusPerPod", options.gpus_per_pod), ("gang", options.gang), ("job.api", options.job_api)):
        if value:
            set_dotted(merged, key, value)
    if options.tolerations:
        known = merged.get("tolerations", list(_OWN_TOLERATIONS))
        merged["tolerations"] = [*known, *map(_toleration, options.tolerations)]
    if options.node_selector:
        merged["nodeSelector"] = {**merged.get("nodeSelector", {}), **dict(map(_label, options.node_selector))}
    for name in options.pull_secrets:
        _check("--image-pull-secret", name, _NAME, "the name of a Secret")
    if options.pull_secrets:
        image = merged.get("image", {})
        merged["image"] = {**image, "pullSecrets": [*image.get("pullSecrets", []), *options.pull_secrets]}
    if options.env:
        merged["extraEnv"] = [*merged.get("extraEnv", []), *map(_variable, options.env)]
    for number, text in enumerate(options.volumes):
        _add_volume(merged, f"volume-{number}", text)
    return merged


def _refuse_doubly_set_lists(options: PodOptions, assignments: Sequence[str]) -> None:
    for key, option, given in (
        ("tolerations", "--toleration", options.tolerations),
        ("extraEnv", "--env", options.env),
        ("extraVolumes", "--volume", options.volumes),
        ("image.pullSecrets", "--image-pull-secret", options.pull_secrets),
    ):
        if given and any(text.startswith((f"{key}[", f"{key}=")) for text in assignments):
            raise ConfigError(f"{option} and --chart-value {key} set the same list: use only one of them")


def _set_for_queue(values: dict[str, Any], label: str, key: str, value: str | int) -> None:
    """Set what Kueue reads from a label where there is a queue, and else a value of the chart is for."""
    if values.get("queue"):
        values["labels"] = {**values.get("labels", {}), label: str(value)}
    else:
        set_dotted(values, key, value)


def _toleration(text: str) -> dict[str, str]:
    head, colon, effect = text.rpartition(":")
    if not colon:
        head, effect = text, ""
    key, equals, value = head.partition("=")
    if not key or (effect and effect not in _EFFECTS):
        raise ConfigError(f"--toleration {text}: expected KEY[=VALUE][:EFFECT], EFFECT one of {', '.join(_EFFECTS)}")
    _check(f"--toleration {text}:", key, _KEY, "the key of a taint")
    _check(f"--toleration {text}:", value, _VALUE, "the value of a taint")
    found = {"key": key, "operator": "Equal" if equals else "Exists"}
    return found | ({"value": value} if equals else {}) | ({"effect": effect} if effect else {})


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"{option} {text}: expected KEY=VALUE")
    return key, value


def _label(text: str) -> tuple[str, str]:
    key, value = _pair("--node-selector", text)
    _check(f"--node-selector {text}:", key, _KEY, "the key of a label")
    _check(f"--node-selector {text}:", value, _VALUE, "the value of a label")
    return key, value


def _check(where: str, text: str, pattern: re.Pattern[str], what: str) -> None:
    if not pattern.fullmatch(text):
        raise ConfigError(f"{where} {text!r} cannot be {what} in Kubernetes")


def _variable(text: str) -> dict[str, str]:
    name, value = _pair("--env", text)
    if not _VARIABLE.fullmatch(name):
        raise ConfigError(f"--env {name}: not a valid variable name")
    check_variable("--env", name, value)
    if _OWN_VARIABLES.fullmatch(name):
        raise ConfigError(f"--env {name}: tspctl sets this variable for each rank; it cannot be overridden")
    return {"name": name, "value": value}


def _add_volume(values: dict[str, Any], name: str, text: str) -> None:
    claim, _, path = text.partition(":")
    path, _, mode = path.partition(":")
    if not claim or not path.startswith("/") or mode not in ("", "ro"):
        raise ConfigError(f"--volume {text}: expected CLAIM:PATH or CLAIM:PATH:ro with an absolute path")
    _check(f"--volume {text}:", claim, _NAME, "the name of a volume claim")
    volumes: Sequence[Any] = values.get("extraVolumes", [])
    mounts: Sequence[Any] = values.get("extraVolumeMounts", [])
    mount = {"name": name, "mountPath": path} | ({"readOnly": True} if mode else {})
    values["extraVolumes"] = [*volumes, {"name": name, "persistentVolumeClaim": {"claimName": claim}}]
    values["extraVolumeMounts"] = [*mounts, mount]
