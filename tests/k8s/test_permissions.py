"""Permissions that are missing are named before anything is created."""

from pathlib import Path

import yaml

from k8s.permissions import NEEDED, NEEDED_FOR, check_permissions
from tests.k8s.findings import levels

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def test_missing_permissions_are_all_named_at_once(api, cluster):
    def review(method, query, body):
        asked = body["spec"]["resourceAttributes"]
        return 201, {"status": {"allowed": asked["resource"] not in ("secrets", "nodes") and asked["verb"] != "patch"}}

    api.objects[REVIEW] = review
    permissions, nodes = check_permissions(cluster, ["pytorchjob", "trainjob"])
    assert permissions.message == (
        "missing: patch pytorchjobs.kubeflow.org, patch trainjobs.trainer.kubeflow.org, "
        "patch trainingruntimes.trainer.kubeflow.org, patch jobs.batch, create secrets, delete secrets, get secrets, "
        "list secrets, update secrets in namespace video; have an administrator bind the Role of k8s/role.yaml"
    )
    assert (permissions.level, nodes.level) == ("error", "warning")


def test_full_rights_are_fine(api, cluster):
    api.objects[REVIEW] = lambda method, query, body: (201, {"status": {"allowed": True}})
    assert {level for _, level in levels(check_permissions(cluster))} == {"ok"}


def test_the_role_in_the_documentation_grants_what_is_asked_for():
    role = yaml.safe_load((Path(__file__).resolve().parents[2] / "k8s" / "role.yaml").read_text())
    granted = {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    needed = {right for rights in NEEDED_FOR.values() for right in rights} | set(NEEDED)
    for verb, group, resource, subresource in needed:
        assert (verb, group, f"{resource}/{subresource}" if subresource else resource) in granted


def test_a_missing_right_to_a_part_of_a_resource_is_named_with_it(api, cluster):
    def review(method, query, body):
        asked = body["spec"]["resourceAttributes"]
        return 201, {"status": {"allowed": asked.get("subresource") != "log"}}

    api.objects[REVIEW] = review
    permissions, nodes = check_permissions(cluster)
    assert permissions.message.startswith("missing: get pods/log in namespace video")
    assert nodes.level == "ok"


def test_the_role_changes_only_what_tspctl_makes_or_stops():
    role = yaml.safe_load((Path(__file__).resolve().parents[2] / "k8s" / "role.yaml").read_text())
    changed = {
        resource
        for rule in role["rules"]
        for resource in rule["resources"]
        if {"create", "update", "patch", "delete"}.intersection(rule["verbs"])
    }
    made = {"pytorchjobs", "trainjobs", "trainingruntimes", "jobs", "secrets", "configmaps", "serviceaccounts"}
    assert changed == {*made, "pods", "pods/exec", "workloads"}
