"""A user with the rights that the documentation asks for, and no other."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.kubectl import Kubectl

NAME = "researcher"
ROLE = Path(__file__).resolve().parents[2] / "k8s" / "role.yaml"
TOKEN_LIFE = "3h"


def researcher(kubectl: Kubectl, folder: Path) -> Path:
    """A kubeconfig in ``folder`` of a user who has k8s/role.yaml in the namespace; the namespace takes it along."""
    account = f"{kubectl.namespace}:{NAME}"
    kubectl.run("create", "serviceaccount", NAME)
    kubectl.run("apply", "-f", str(ROLE))
    kubectl.run("create", "rolebinding", NAME, "--role", "tspctl", "--serviceaccount", account)
    token = kubectl.run("create", "token", NAME, "--duration", TOKEN_LIFE).strip()
    config = json.loads(kubectl.run("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"] = [{"name": NAME, "user": {"token": token}}]
    config["contexts"][0]["context"] = {"cluster": config["clusters"][0]["name"], "user": NAME}
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))  # YAML reads JSON
    return path


def may_list_nodes(kubectl: Kubectl) -> None:
    """The one right outside the namespace, which plans of the downscale factor want."""
    name, group = outside_name(kubectl), "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": kubectl.namespace}
    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}]
    role = {"apiGroup": group, "kind": "ClusterRole", "name": name}
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": name}}
    kubectl.apply(
        {**head, "kind": "ClusterRole", "rules": rules},
        {**head, "kind": "ClusterRoleBinding", "subjects": [subject], "roleRef": role},
    )


def may_not_list_nodes(kubectl: Kubectl) -> None:
    """Take that right away again, if it was given."""
    kubectl.run("delete", "clusterrole,clusterrolebinding", outside_name(kubectl), "--ignore-not-found")


def outside_name(kubectl: Kubectl) -> str:
    """Name of the objects outside the namespace that belong to it."""
    return f"tspctl-{kubectl.namespace}"
