"""A Role that lacks one right of k8s/role.yaml: a command does without it, or says which it is and where to get it."""

import pytest

from tests.cli.backends.cluster.run_states.installed import NAME, at_work
from tests.k8s.storing_api import documented_role

COMMANDS = (
    ("list",),
    ("status", NAME),
    ("suspend", NAME),
    ("delete", NAME, "--yes", "--keep-store"),
)
USED = ("pytorchjobs", "trainjobs", "pods", "secrets", "configmaps", "events", "workloads")
RIGHTS = [
    (verb, group, resource)
    for rule in documented_role()["rules"]
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
    if verb not in ("create", "update", "watch") and resource in USED
]
"""What ``submit`` alone needs it asks for beforehand."""


def without(verb, group, resource):
    role = documented_role()
    for rule in role["rules"]:
        if group in rule["apiGroups"] and resource in rule["resources"]:
            rest = [item for item in rule["resources"] if item != resource]
            role["rules"].append({**rule, "resources": [resource], "verbs": [v for v in rule["verbs"] if v != verb]})
            rule["resources"] = rest
            break
    return role


@pytest.mark.parametrize("right", RIGHTS, ids=" ".join)
def test_a_command_does_without_a_right_or_names_it(tspctl, api, installed, right):
    at_work(api, installed)
    api.role = without(*right)
    verb, group, resource = right
    named = f"missing permission: {verb} {resource}{'.' + group if group else ''} in namespace video; see k8s/role.yaml"
    for command in COMMANDS:
        done = tspctl(*command)
        if done.code:
            assert (done.code, named in done.err) == (4, True), (command, done.err)
            break


def test_a_right_to_a_kind_that_the_cluster_does_not_serve_is_not_asked_for(tspctl, api):
    """Rights are checked before kinds are: on a cluster of Kubeflow Trainer v2 alone, nobody grants PyTorchJobs."""
    api.role = documented_role()
    for rule in api.role["rules"]:
        rule["resources"] = [item for item in rule["resources"] if item != "pytorchjobs"]
    for command, verb in ((("list",), "list"), (("status", NAME), "get")):
        done = tspctl(*command)
        assert (done.code, f"missing permission: {verb} pytorchjobs" in done.err) == (4, True), done.err
    del api.objects["/apis/kubeflow.org/v1"]
    for command, code in ((("list",), 0), (("status", NAME), 102)):
        done = tspctl(*command)
        assert done.code == code, done.err
