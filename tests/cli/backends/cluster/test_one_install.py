"""A real Helm and a small API server that keeps what it is sent: what a submit does, from beginning to end."""

import json
import subprocess

import pytest
import yaml

from cli.backends.cluster.backend import ClusterBackend
from cli.options.settings import Settings
from cli.stores import Stores
from k8s.helm import Helm, shipped_chart
from tests.k8s.serving import JOBS, gpu_node
from tests.k8s.storing_api import StoringApi, documented_role

DENIED = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "message": "denied at last"}
SUBMIT = ("submit", "--dataset", "thumos14", "--method", "tac", "--gpus", "2", "--name", "r1", "--data", "/data")


@pytest.fixture
def api(monkeypatch):
    server = StoringApi()
    server.objects |= {
        "/apis/apps/v1/deployments": [],
        "/api/v1/namespaces/video": {"metadata": {}},
        "/api/v1/namespaces/video/events": [],
        "/api/v1/nodes": [gpu_node("a", "16384")],
        "/api/v1/namespaces/video/persistentvolumeclaims/videos": {"metadata": {}, "status": {"phase": "Bound"}},
    }
    yield server
    server.close()


@pytest.fixture
def tspctl(tspctl, cluster, real_helm, tmp_path, monkeypatch):
    """A command line with data and store on a claim."""
    monkeypatch.setattr("k8s.runs._POLL_SEC", 0.01)
    (tmp_path / "tspctl.toml").write_text(
        f'kubeconfig = "{cluster.where.kubeconfig}"\nstore = "{tmp_path}/store"\n'
        f'[chart_values]\n"data.claim" = "videos"\n'
        f'extraVolumes = [{{name = "store", persistentVolumeClaim = {{claimName = "videos"}}}}]\n'
        f'extraVolumeMounts = [{{name = "store", mountPath = "{tmp_path}/store"}}]\n'
    )
    return tspctl


@pytest.fixture
def called(monkeypatch):
    """Verbs of every call of Helm."""
    verbs = []
    run = Helm._run

    def noting(self, verb, *arguments, **more):
        verbs.append(verb)
        return run(self, verb, *arguments, **more)

    monkeypatch.setattr(Helm, "_run", noting)
    return verbs


def manifest_of(api):
    """What the release holds; Helm 4 adds an empty line, which is no part of any object."""
    return api.release("r1")["manifest"].rstrip("\n") + "\n"


def test_a_dry_run_prints_byte_for_byte_what_is_sent(tspctl, api):
    shown = tspctl(*SUBMIT, "--dry-run")
    judged = tspctl(*SUBMIT, "--dry-run=server")
    assert shown.code == judged.code == 0, shown.err + judged.err
    assert shown.out == judged.out
    assert not [path for path in api.objects if "r1" in path]
    sent = tspctl(*SUBMIT)
    assert (sent.code, sent.out) == (0, "r1\n"), sent.err
    assert manifest_of(api) == shown.out
    for item in yaml.safe_load_all(shown.out):
        of_name = [found for path, found in api.objects.items() if path.endswith("/" + item["metadata"]["name"])]
        (kept,) = [found for found in of_name if found["kind"] == item["kind"]]
        assert {**kept, "metadata": None} == {**item, "metadata": None}
        assert kept["metadata"]["labels"].items() >= item["metadata"]["labels"].items()


def test_a_value_that_would_have_helm_look_up_nodes_changes_nothing_unseen(tspctl, api):
    """The plan is tspctl's; ``lookup`` gives nothing in a dry run, and would give something in an installation."""
    nodes = [gpu_node("a", "16384", gpus="1"), gpu_node("b", None)]
    api.objects["/api/v1/nodes"] = lambda *_: (200, {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": [
        {"kind": "Node", "apiVersion": "v1", **node} for node in nodes
    ]})  # fmt: skip
    arguments = (*SUBMIT, "--chart-value", "lookupNodes=true")
    shown, sent = tspctl(*arguments, "--dry-run"), tspctl(*arguments)
    assert sent.code == 0, sent.err
    assert manifest_of(api) == shown.out
    assert "16384" not in shown.out


def test_helm_touches_the_cluster_once(tspctl, api, called):
    assert tspctl(*SUBMIT).code == 0
    assert [verb for verb in called if verb != "template"] == ["install"]
    assert called.count("template") <= 2


def test_helm_renders_once_where_the_nodes_decide_nothing(tspctl, api, called):
    api.objects["/api/v1/nodes"] = lambda *_: (403, {"message": "no"})
    assert tspctl(*SUBMIT, "--downscale", "2", "--dry-run", "--chart-value", "gpuResource=").code == 0
    assert len(called) <= 2


def test_a_name_whose_release_has_no_job_is_refused_and_left_alone(tspctl, api, called):
    assert tspctl(*SUBMIT).code == 0
    before = dict(api.objects)
    del api.objects[f"{JOBS}/r1"]
    refused = tspctl(*SUBMIT)
    assert refused.code == 2
    assert (
        "namespace video already has a run 'r1': choose another --name, or remove it with 'tspctl delete" in refused.err
    )
    assert api.objects == {path: found for path, found in before.items() if path != f"{JOBS}/r1"}
    assert "uninstall" not in called


def test_a_name_that_is_too_long_is_refused_before_anything_is_asked(tspctl, api, called):
    refused = tspctl(*SUBMIT, "--name", "r" * 45)
    assert (refused.code, "at most 44" in refused.err) == (2, True)
    assert (api.requests, called) == ([], [])


def test_what_was_submitted_is_deleted_without_a_trace(tspctl, api):
    before = set(api.objects)
    assert tspctl(*SUBMIT).code == 0
    job = api.objects[f"{JOBS}/r1"]
    job["status"] = {"conditions": [{"type": "Succeeded", "status": "True"}]}
    deleted = tspctl("delete", "r1", "--yes")
    assert deleted.code == 0, deleted.err
    assert set(api.objects) == before


# With the rights of the documented Role and no other


@pytest.fixture
def few_rights(api):
    api.role = documented_role()
    return api


def test_every_command_works_with_the_documented_role(tspctl, few_rights, api, called):
    """All that is refused lies outside the namespace, and is done without."""
    submitted = tspctl(*SUBMIT)
    assert submitted.code == 0, submitted.err
    assert "no permission to list nodes: the pods decide" in submitted.err
    found = api.objects[f"{JOBS}/r1"]
    found["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
    found["status"] = {"conditions": [{"type": "Created", "status": "True"}]}
    api.objects[f"{JOBS}/r1"] = found
    for command in (["status", "r1"], ["list"], ["logs", "r1"], ["list", "--all"]):
        ended = tspctl(*command)
        assert ended.code == 0, (command, ended.err)
    patches = []

    def patching(method, query, body):
        if method == "PATCH":
            patches.append(body["spec"]["runPolicy"]["suspend"])
            found["spec"]["runPolicy"]["suspend"] = body["spec"]["runPolicy"]["suspend"]
            found["metadata"]["annotations"] |= body["metadata"]["annotations"]
        if method == "DELETE":
            del api.objects[f"{JOBS}/r1"]
        return 200, found

    api.objects[f"{JOBS}/r1"] = patching
    for command in ("suspend", "resume", "cancel"):
        ended = tspctl(command, "r1")
        assert ended.code == 0, (command, ended.err)
    assert patches == [True, False, True]
    deleted = tspctl("delete", "r1", "--yes")
    assert deleted.code == 0, deleted.err
    outside = {"list nodes is forbidden", "list deployments is forbidden", "create pods is forbidden"}
    assert set(api.refused) <= outside


@pytest.mark.parametrize(
    ("verb", "resource", "missing"),
    [
        ("create", "pytorchjobs", "create pytorchjobs.kubeflow.org"),
        ("update", "secrets", "update secrets"),
        ("get", "configmaps", "get configmaps"),
        ("list", "pods", "list pods"),
        ("get", "pods/log", "get pods/log"),
    ],
)
def test_a_right_that_is_missing_is_named_and_nothing_is_created(
    tspctl, few_rights, api, called, verb, resource, missing
):
    for rule in api.role["rules"]:
        if resource in rule["resources"]:
            rule["verbs"] = [item for item in rule["verbs"] if item != verb]
    before = set(api.objects)
    refused = tspctl(*SUBMIT)
    assert refused.code == 4
    named, _, advice = refused.err.partition("permissions: missing: ")[2].partition(" in namespace video; ")
    assert missing in named.split(", ")
    assert advice.startswith("have an administrator bind the Role of k8s/role.yaml")
    assert set(api.objects) == before
    assert "install" not in called


def test_a_failed_installation_leaves_nothing_behind(tspctl, api, called):
    api.objects["/apis/kubeflow.org/v1/namespaces/video/pytorchjobs"] = lambda method, query, body: (
        (201, body) if "dryRun" in query else (403, DENIED)
    )
    # Helm 4 creates by PATCH
    api.objects["/apis/kubeflow.org/v1/namespaces/video/pytorchjobs/r1"] = lambda method, query, body: (
        (403, DENIED) if method == "PATCH" else (404, {"message": "not found"})
    )
    before = set(api.objects)
    failed = tspctl(*SUBMIT)
    assert failed.code == 4
    assert "denied at last" in failed.err
    assert set(api.objects) == before
    assert json.dumps(called[-2:]) == '["install", "uninstall"]'


def test_a_backend_needs_no_home_of_helm(cluster, api, real_helm, monkeypatch, tmp_path):
    monkeypatch.setenv("HELM_CACHE_HOME", str(tmp_path / "none"))
    assert ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig), Stores())._helm.uninstall("nothing") is False


def test_an_upgrade_to_another_configuration_is_refused_before_anything_is_sent(tspctl, api, real_helm, cluster):
    assert tspctl(*SUBMIT).code == 0
    values = api.release("r1")["config"]
    before = dict(api.objects)

    def upgrade(changed):
        command = [real_helm, "upgrade", "r1", shipped_chart(), "--namespace", "video", "--values", "-"]
        command += ["--kubeconfig", cluster.where.kubeconfig]
        return subprocess.run(command, input=json.dumps(changed), capture_output=True, text=True, check=False)

    config = json.loads(values["config"])
    refused = upgrade({**values, "config": json.dumps({**config, "gpus": 4}), "gpus": 4})
    assert refused.returncode != 0
    assert "r1-config is immutable: a run keeps the configuration it was started with" in refused.stderr
    assert api.objects == before
    same = upgrade(values)
    assert "immutable" not in same.stderr


@pytest.mark.parametrize("resource", ["pytorchjobs", "configmaps", "secrets"])
def test_a_run_that_could_only_be_removed_in_part_is_left_as_it_is(tspctl, few_rights, api, called, resource):
    """Helm removes what it may, and says of the rest only that it failed."""
    assert tspctl(*SUBMIT).code == 0
    api.objects[f"{JOBS}/r1"]["status"] = {"conditions": [{"type": "Succeeded", "status": "True"}]}
    (rule,) = [rule for rule in api.role["rules"] if resource in rule["resources"]]
    rule["verbs"].remove("delete")
    before = set(api.objects)
    refused = tspctl("delete", "r1", "--yes")
    assert refused.code == 4
    group = ".kubeflow.org" if resource == "pytorchjobs" else ""
    told = (
        f"r1 is left as it is, since Helm could remove only a part of it (missing permission: delete {resource}{group}"
    )
    assert told in refused.err
    assert set(api.objects) == before
    assert "uninstall" not in called
