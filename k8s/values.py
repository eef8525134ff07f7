"""From a configuration to the chart's values. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from k8s.node_plan import NodePlan
from tsp.config.codec import json_text, set_dotted, to_dict
from tsp.config.job import Job, written_paths
from tsp.config.run import RunConfig, from_json, to_json
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError

Values = dict[str, Any]

POD_VIDEO_CACHE = "/cache/videos"
_NAME = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
_IMAGE = {
    "repository": re.compile(
        rf"(([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]+)?/)?{_NAME}(/{_NAME})*"
    ),
    "tag": re.compile(r"|[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
    "digest": re.compile(r"|sha256:[0-9a-f]{64}"),
}
"""The grammar of images; the chart's schema has the same."""


def config_for_pods(config: RunConfig, *, endpoint_url: str | None = None) -> RunConfig:
    """The configuration as pods read it.

    Args: endpoint_url, the store's as pods reach it, where that differs from this machine's.
    Pods get the store's certificate authority through the chart (``store.caConfigMap``), not as a path of this machine.
    """
    store = store_for_pods(config.store, endpoint_url=endpoint_url)
    data = config.data
    if data.root.startswith("s3://") and data.cache_dir is None:
        data = replace(data, cache_dir=POD_VIDEO_CACHE)
    return replace(config, store=store, data=data)


def store_for_pods(store: StoreConfig, *, endpoint_url: str | None) -> StoreConfig:
    """The store's settings as pods need them."""
    return replace(store, endpoint_url=endpoint_url or store.endpoint_url, ca_bundle=None)


def run_values(config: RunConfig, plan: NodePlan | None, *, image: str | None, queue: str | None) -> Values:
    """Chart values of a training run.

    Args: config, as pods read it; plan, None before the nodes are known.
    """
    values: Values = {
        "config": to_json(config),
        "gpus": config.gpus,
        "downscale": config.downscale,
        "store": {"uri": config.store.uri},
        **_image_and_queue(image, queue),
    }
    if plan is not None and (plan.memory_values or plan.explanation):
        values["plan"] = {"memoryValues": list(plan.memory_values), "note": "; ".join(plan.explanation)}
        if plan.compute_majors:
            values["plan"]["computeMajors"] = list(plan.compute_majors)
    return values


def job_values(job: Job, *, shards: int, image: str | None, queue: str | None) -> Values:
    """Chart values of an auxiliary job; the shards share one request and get their number from their index."""
    request = to_dict(job)
    if shards > 1:
        request |= {"shards": shards, "shard": None}
    values: Values = {
        "job": {
            "kind": job.kind,
            "request": json_text(request),
            "shards": shards,
            "gpu": job.needs_gpu,
        },
        **_image_and_queue(image, queue),
    }
    if job.server is not None:
        values["store"] = {"uri": job.server.uri}
    if written_paths(job):
        # The results may be on the claim of the data, which is mounted read-only otherwise.
        values["data"] = {"readOnly": False}
    return values


def _image_and_queue(image: str | None, queue: str | None) -> Values:
    values: Values = {"image": image_values(image)} if image else {}
    if queue:
        values["queue"] = queue
    return values


def image_values(reference: str) -> dict[str, str]:
    """``registry:5000/team/tsp:v1@sha256:...`` as the chart's repository, tag and digest.

    Raises: ConfigError for what no node can pull; an empty tag, as of an unset shell variable, would be the chart's.
    """
    name, _, digest = reference.partition("@")
    repository, tag = name, ""
    head, colon, last = name.rpartition(":")
    # A colon before a slash is the registry's port.
    if colon and "/" not in last:
        repository, tag = head, last
    found = {"repository": repository, "tag": tag, "digest": digest}
    if reference.endswith((":", "@")) or not all(_IMAGE[part].fullmatch(text) for part, text in found.items()):
        raise ConfigError(
            f"--image {reference!r} is not an image: expected [REGISTRY/]NAME[:TAG][@sha256:...], NAME in lower case"
        )
    return found


def with_attempts(values: Values, max_attempts: int) -> Values:
    """Values of a training run with another bound of its attempts."""
    if values.get("config"):
        return {**values, "config": to_json(replace(from_json(values["config"]), max_attempts=max_attempts))}
    return {**values, "set": {**(values.get("set") or {}), "max_attempts": max_attempts}}


def with_dotted(values: Values, dotted: Mapping[str, Any]) -> Values:
    """Values with others by dotted key over them: ``{"shm.sizeLimit": "16Gi"}``."""
    merged: Values = json.loads(json.dumps(values))
    for key, value in dotted.items():
        set_dotted(merged, key, value)
    return merged
