"""GPUs that are not there: capacity and labels as the device plugin and GPU feature discovery would set them.

Kubernetes lets an administrator advertise an extended resource on a node through its status; the scheduler counts it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from tests.e2e.kubectl import Kubectl, wait_for

GPU = "nvidia.com/gpu"
MEMORY_LABEL = "nvidia.com/gpu.memory"


def set_gpus(kubectl: Kubectl, node: str, count: int, memory_mib: int | None) -> None:
    """Let ``node`` offer ``count`` GPUs, each of ``memory_mib`` MiB by its label (None: unlabelled)."""
    # a whole-number amount: an extended resource has no fractions
    patch = {"status": {"capacity": {GPU: str(count)}}}
    kubectl.run("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(patch))
    label = f"{MEMORY_LABEL}-" if memory_mib is None else f"{MEMORY_LABEL}={memory_mib}"
    kubectl.run("label", "node", node, "--overwrite", label)
    wait_for(
        lambda: kubectl.get("node", node)["status"]["allocatable"].get(GPU) == str(count),
        what=f"{count} GPUs in the allocatable resources of {node}",
    )


def remove_gpus(kubectl: Kubectl, node: str) -> None:
    """Undo ``set_gpus``."""
    patch = {"status": {"capacity": {GPU: None}, "allocatable": {GPU: None}}}
    kubectl.run("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(patch))
    kubectl.run("label", "node", node, f"{MEMORY_LABEL}-")


@contextlib.contextmanager
def gpu_memory(kubectl: Kubectl, node: str, memory_mib: int | None) -> Iterator[None]:
    """Another GPU memory label on ``node``, or none, for a while."""
    before = kubectl.get("node", node)["metadata"]["labels"].get(MEMORY_LABEL)
    label = f"{MEMORY_LABEL}-" if memory_mib is None else f"{MEMORY_LABEL}={memory_mib}"
    kubectl.run("label", "node", node, "--overwrite", label)
    try:
        yield
    finally:
        restore = f"{MEMORY_LABEL}-" if before is None else f"{MEMORY_LABEL}={before}"
        kubectl.run("label", "node", node, "--overwrite", restore)
