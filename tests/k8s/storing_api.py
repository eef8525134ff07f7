"""An API server in miniature that a real Helm can install into: it keeps objects, and refuses what no Role grants."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
import threading
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.fake_api import SECRETS, Answer, FakeApi

KINDS = {
    "v1": {
        "configmaps": "ConfigMap",
        "serviceaccounts": "ServiceAccount",
        "secrets": "Secret",
        "pods": "Pod",
        "nodes": "Node",
    },
    "batch/v1": {"jobs": "Job"},
    "kubeflow.org/v1": {"pytorchjobs": "PyTorchJob"},
    "trainer.kubeflow.org/v1alpha1": {"trainjobs": "TrainJob", "trainingruntimes": "TrainingRuntime"},
}
ROLE = Path(__file__).resolve().parents[2] / "k8s" / "role.yaml"
_RELEASE = re.compile(rb"H4sI[A-Za-z0-9+/=]+")
"""A release as Helm puts it into a Secret, which it sends as protobuf."""
_GIVEN_LABEL = re.compile(rb"\x0a.((?:tspctl|app\.kubernetes\.io)/[a-z-]+)\x12.([a-z0-9-]+)", re.DOTALL)
"""A label that was given with --labels, in protobuf: a map's entry of two strings."""
_PATH = re.compile(r"/(?:api|apis/([^/]+))/[^/]+(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+))?(?:/([^/]+))?$")


class StoringApi(FakeApi):
    """``objects`` fills by what is created. With ``role``, what that does not grant is answered with 403."""

    def __init__(self) -> None:
        self.versions = itertools.count(1)
        super().__init__()
        # Listed from what was created.
        del self.objects[SECRETS]
        self.lock = threading.Lock()
        self.role: dict[str, Any] | None = None
        self.refused: list[str] = []
        self.objects |= {
            "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(of) for of in KINDS if "/" in of]},
            "/openapi/v3": {"paths": {_root(of): {"serverRelativeURL": f"/openapi/v3/{_root(of)}"} for of in KINDS}},
        }
        for version, kinds in KINDS.items():
            self.objects[f"/{_root(version)}"] = _resources(version, kinds)
            self.objects[f"/openapi/v3/{_root(version)}"] = _schema(version, kinds)

    def _find(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        missing = self._missing(method, path)
        if missing:
            self.refused.append(missing)
            return 403, {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": missing}
        if method == "POST" and "accessreviews" in path:
            wanted = body["spec"]["resourceAttributes"]
            return 201, {"status": {"allowed": self._granted(wanted["verb"], wanted["group"], _what(wanted))}}
        if isinstance(self.objects.get(path), list) or callable(self.objects.get(path)):
            return super()._find(method, path, query, body)
        if method == "PATCH" and path not in self.objects and "apiVersion" in body:
            # Server-side apply, with which Helm 4 creates.
            self.objects[path] = body
            return 201, body
        if method in ("POST", "PUT"):
            found = body if isinstance(body, dict) else _secret_in(body, path)
            path = f"{path}/{found['metadata']['name']}" if method == "POST" else path
            if "dryRun" not in query:
                with self.lock:
                    if method == "POST" and path in self.objects:
                        return 409, _exists(path)
                    read = found["metadata"].get("resourceVersion")
                    if read is not None and read != self.objects[path]["metadata"]["resourceVersion"]:
                        return 409, {"message": f"{path} has been modified"}
                    found["metadata"]["resourceVersion"] = str(next(self.versions))
                    self.objects[path] = found
            return 201, found
        if method == "DELETE":
            self.objects.pop(path, None)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if method == "GET" and path not in self.objects and path.split("/")[-1] in _plurals():
            return 200, self._list(path, query)
        return super()._find(method, path, query, body)

    def _list(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """Objects of a kind that have the labels asked for."""
        wanted = dict(item.split("=", 1) for item in query.get("labelSelector", "").split(",") if "=" in item)
        found = [
            item
            for key, item in self.objects.items()
            if key.rpartition("/")[0] == path and wanted.items() <= (item["metadata"].get("labels") or {}).items()
        ]
        kind = _plurals()[path.split("/")[-1]]
        return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": {}, "items": found}

    def _missing(self, method: str, path: str) -> str | None:
        match = _PATH.match(path)
        if self.role is None or match is None or "accessreviews" in path:
            return None
        group, namespace, resource, name, subresource = match.groups()
        if resource == "namespaces":
            # Reading a namespace counts as a request within it.
            namespace = name
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method)
        verb = verb or ("get" if name else "list")
        what = f"{resource}/{subresource}" if subresource else resource
        if namespace is not None and self._granted(verb, group or "", what):
            return None
        return f"{verb} {what} is forbidden"

    def _granted(self, verb: str, group: str, what: str) -> bool:
        if self.role is None:
            return True
        return any(
            verb in rule["verbs"] and group in rule["apiGroups"] and what in rule["resources"]
            for rule in self.role["rules"]
        )

    def release(self, name: str) -> dict[str, Any]:
        """A release as Helm has written it down; its ``manifest`` is what it sent."""
        (secret,) = [item for key, item in self.objects.items() if f"/secrets/sh.helm.release.v1.{name}." in key]
        text = base64.b64decode(secret["data"]["release"])
        found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
        return found


def _exists(path: str) -> dict[str, Any]:
    """As the API server refuses a second object of a name."""
    resource, name = path.split("/")[-2:]
    message = f'{resource} "{name}" already exists'
    reason = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "code": 409}
    return {**reason, "message": message, "details": {"name": name, "kind": resource}}


def documented_role() -> dict[str, Any]:
    """The Role that the documentation asks for."""
    found: dict[str, Any] = yaml.safe_load(ROLE.read_text())
    return found


def _what(wanted: dict[str, str]) -> str:
    return wanted["resource"] + (f"/{wanted['subresource']}" if wanted.get("subresource") else "")


def _plurals() -> dict[str, str]:
    return {plural: kind for kinds in KINDS.values() for plural, kind in kinds.items()}


def _root(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def _group(version: str) -> dict[str, Any]:
    known = {"groupVersion": version, "version": version.split("/")[1]}
    return {"name": version.split("/")[0], "versions": [known], "preferredVersion": known}


def _resources(version: str, kinds: dict[str, str]) -> dict[str, Any]:
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    found = [
        {"name": plural, "kind": kind, "namespaced": kind != "Node", "singularName": "", "verbs": verbs}
        for plural, kind in kinds.items()
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": found}


def _schema(version: str, kinds: dict[str, str]) -> dict[str, Any]:
    """OpenAPI that says only that the server validates fields itself."""
    group, _, number = version.rpartition("/")
    paths = {}
    for plural, kind in kinds.items():
        patch = {
            "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
            "responses": {},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
        }
        paths[f"/{_root(version)}/namespaces/{{namespace}}/{plural}/{{name}}"] = {"patch": patch}
    return {"openapi": "3.0.0", "info": {"title": "miniature", "version": "1"}, "paths": paths}


def _secret_in(body: bytes, path: str) -> dict[str, Any]:
    """The Secret with a release, from protobuf, as far as Helm reads it again."""
    found = re.search(rb"sh\.helm\.release\.v1\.([a-z0-9-]+)\.v(\d+)", body)
    text = _RELEASE.search(body)
    assert found is not None, f"a body for {path} that is neither JSON nor a release"
    assert text is not None, f"a body for {path} that is neither JSON nor a release"
    labels = {"name": found[1].decode(), "owner": "helm", "version": found[2].decode()}
    given = {key.decode(): value.decode() for key, value in _GIVEN_LABEL.findall(body)}
    labels |= {**given, "status": "deployed" if b"deployed" in body else "pending-install"}
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": found[0].decode(), "labels": labels},
        "data": {"release": base64.b64encode(text[0]).decode()},
    }
