"""Runs, jobs and nodes as the small API server has them, and an operator in miniature."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from k8s.names import PYTORCHJOBS, TRAINJOBS, resource_of
from tests.k8s.fake_api import SECRETS, FakeApi

JOBS = "/apis/kubeflow.org/v1/namespaces/video/pytorchjobs"
TRAIN_JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/video/trainjobs"
RUNTIMES = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/video/trainingruntimes"
INDEXED_JOBS = "/apis/batch/v1/namespaces/video/jobs"
PODS = "/api/v1/namespaces/video/pods"
EVENTS = "/api/v1/namespaces/video/events"
CONFIGMAPS = "/api/v1/namespaces/video/configmaps"


MANIFEST = (
    "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata:\n  labels:\n    app.kubernetes.io/part-of: tspctl\n"
)
"""As much of one as says whose it is."""


def path_of(found: dict[str, Any]) -> str:
    """Where the server has a PyTorchJob, a TrainJob or an Indexed Job."""
    kinds = {PYTORCHJOBS: JOBS, TRAINJOBS: TRAIN_JOBS}
    return f"{kinds.get(resource_of(found), INDEXED_JOBS)}/{found['metadata']['name']}"


def serve_run(api: FakeApi, found: dict[str, Any], pods: Sequence[dict[str, Any]] = ()) -> None:
    """Have a job with these pods and no events."""
    api.objects[path_of(found)] = found
    api.objects[PODS] = list(pods)
    for item in pods:
        item["spec"]["containers"] = [{"name": "pytorch"}]
        api.objects[f"{PODS}/{item['metadata']['name']}"] = item
    api.objects[EVENTS] = []


def serve_release(api: FakeApi, name: str, *, labels: dict[str, str] | None = None, **content: Any) -> None:
    """Have Helm's record of a release, as it writes one; ``content`` is what it packs into the Secret."""
    content = {"chart": {"metadata": {"name": "tsp"}}, "manifest": MANIFEST, **content}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    known = {"name": name, "owner": "helm", "status": "deployed", "version": "1", **(labels or {})}
    metadata = {
        "name": f"sh.helm.release.v1.{name}.v{known['version']}",
        "labels": known,
        "creationTimestamp": "2030-01-01T00:00:00Z",
    }
    secret = {"metadata": metadata, "type": "helm.sh/release.v1", "data": {"release": packed}}
    api.objects[SECRETS].append(secret)
    api.objects[f"{SECRETS}/{metadata['name']}"] = secret


def suspending(api: FakeApi, found: dict[str, Any], *, pods_go: bool = True) -> list[Any]:
    """Take the pods away when the job is suspended. Returns: the patches, as they come."""
    patches: list[Any] = []

    def answer(method: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if method == "PATCH":
            patches.append(body)
            spec = found["spec"]
            spec.get("runPolicy", spec).update(_suspend_of(body))
            found["metadata"]["annotations"] |= body["metadata"]["annotations"]
            if pods_go:
                api.objects[PODS] = []
        return 200, found

    api.objects[path_of(found)] = answer
    return patches


def _suspend_of(body: dict[str, Any]) -> dict[str, Any]:
    spec = body.get("spec", {})
    found: dict[str, Any] = spec.get("runPolicy", spec)
    return found


def goes_after(api: FakeApi, found: dict[str, Any], looks: int, pods: Sequence[dict[str, Any]] = ()) -> None:
    """Have a job that is gone after it was looked at so often, as one whose release is uninstalled; its pods stay."""
    serve_run(api, found, pods)
    left = iter([(200, found)] * looks)
    api.objects[path_of(found)] = lambda *_: next(left, (404, {"message": "not found"}))


def gpu_node(name: str, memory: str | None, gpus: str = "4", **labels: str) -> dict[str, Any]:
    """A node with GPUs of that memory (None: no label)."""
    labels |= {"nvidia.com/gpu.memory": memory} if memory else {}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": gpus}},
    }
