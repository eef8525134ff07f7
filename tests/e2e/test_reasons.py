"""Why a run waits or failed: ``tspctl status`` names the cause, ``submit`` refuses what it can see coming."""

import json

import pytest
import yaml

from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import PATIENCE_SEC, wait_for
from tests.e2e.places import Cluster
from tests.e2e.test_cluster_works import pod_spec, pytorch_job
from tests.e2e.test_helm import install
from tests.e2e.tspctl import SECRET, Tspctl

pytestmark = pytest.mark.e2e

DEMO = ("--dataset", "demo", "--method", "tac")


def install_demo(tspctl: Tspctl, name: str, **values: str) -> None:
    """With helm, which looks at nothing beforehand."""
    store = f"s3://{tspctl.s3.bucket}/{tspctl.prefix}"
    install(tspctl, name, dataset="demo", method="tac", store__uri=store, **values)


def reason(tspctl: Tspctl, name: str, *words: str) -> str:
    """The reason that ``status`` gives, once it has all the words."""

    def given() -> str | None:
        told = tspctl.status(name)["reason"] or ""
        return told if all(word in told for word in words) else None

    return wait_for(
        given,
        what=f"reason with the words {words}",
        describe=lambda: f"{tspctl.status(name)}\n{what_happened(tspctl.kubectl)}",
    )


def test_an_image_that_does_not_exist(tspctl: Tspctl):
    install_demo(tspctl, "no-image", image__repository="localhost/nobody/has-this")
    told = reason(tspctl, "no-image", "cannot pull image", "localhost/nobody/has-this")
    assert "\n" not in told


def test_a_secret_that_does_not_exist(tspctl: Tspctl):
    install_demo(tspctl, "no-secret", store__existingSecret="nobody-made-this")
    reason(tspctl, "no-secret", "nobody-made-this", "not found")


def test_submit_refuses_a_secret_that_does_not_exist(tspctl: Tspctl):
    tspctl.kubectl.run("delete", "secret", SECRET)
    refused = tspctl.try_run("submit", *DEMO, "--name", "refused")
    assert refused.returncode == 4, refused.stderr
    assert SECRET in refused.stderr
    assert tspctl.kubectl.items("pytorchjobs,configmaps", "-l", "app.kubernetes.io/managed-by=Helm") == []


def test_wrong_credentials_end_the_run_and_the_reason_is_said(tspctl: Tspctl):
    tspctl.make_secret(SECRET, tspctl.s3.access_key, "not-the-secret")
    install_demo(tspctl, "locked-out")
    reason(tspctl, "locked-out", "exit code 5")
    assert tspctl.try_run("wait", "locked-out").returncode == 100


def test_more_gpus_than_the_node_has(tspctl: Tspctl, gpus: int):
    refused = tspctl.try_run("submit", *DEMO, "--gpus", str(gpus + 1), "--name", "refused")
    assert refused.returncode == 4, refused.stderr
    assert f"have {gpus} GPUs" in refused.stderr
    install_demo(tspctl, "greedy", gpus=str(gpus + 1), runPolicy__backoffLimit="0")
    reason(tspctl, "greedy", "cannot be scheduled", "nvidia.com/gpu")


def test_workers_hold_no_gpu_before_their_master_has_one(tspctl: Tspctl, gpus: int):
    """The operator's own pods; only the master's node selector is made to fit nowhere, until it does."""
    label, node = f"{tspctl.kubectl.namespace}/master", tspctl.kubectl.items("nodes")[-1]["metadata"]["name"]
    store = f"store.uri=s3://{tspctl.s3.bucket}/{tspctl.prefix}"
    values = ("-f", str(tspctl.site_values()), "--set", f"dataset=demo,method=tac,gpus=2,{store}")
    objects = [
        item for item in yaml.safe_load_all(tspctl.helm("template", "headless", str(tspctl.chart), *values)) if item
    ]
    (job,) = [item for item in objects if item["kind"] == "PyTorchJob"]
    job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["nodeSelector"] = {label: "yes"}
    tspctl.kubectl.apply(*[item for item in objects if "helm.sh/hook" not in item["metadata"].get("annotations", {})])
    reason(tspctl, "headless", "rank 0 cannot be scheduled", "node selector")
    pod = wait_for(
        lambda: next((pod for pod in tspctl.kubectl.items("pods") if "headless-worker" in pod["metadata"]["name"]
                      and "affinity" in str(pod["status"].get("conditions"))), None),
        what="the scheduler's word on the worker", describe=lambda: what_happened(tspctl.kubectl),
    )  # fmt: skip
    assert "nodeName" not in pod["spec"]
    tspctl.kubectl.run("label", "node", node, f"{label}=yes")
    try:
        wait_for(
            lambda: all(pod["spec"].get("nodeName") for pod in tspctl.kubectl.items("pods")),
            what="nodes for both", describe=lambda: what_happened(tspctl.kubectl),
        )  # fmt: skip
    finally:
        tspctl.kubectl.run("label", "node", node, f"{label}-")


def test_a_quota_that_is_used_up(tspctl: Tspctl):
    quota = {"hard": {"requests.nvidia.com/gpu": "1"}}
    tspctl.kubectl.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one-gpu"}, "spec": quota})
    wait_for(
        lambda: tspctl.kubectl.get("resourcequota", "one-gpu").get("status", {}).get("hard"),
        what="quota in force",
    )
    refused = tspctl.try_run("submit", *DEMO, "--gpus", "2", "--name", "first")
    assert refused.returncode == 4, refused.stderr
    assert "quota one-gpu: the run needs more than it allows in all (requests.nvidia.com/gpu 2 of 1)" in refused.stderr
    install_demo(tspctl, "second", gpus="2")
    reason(tspctl, "second", "quota one-gpu", "nvidia.com/gpu")


def test_a_namespace_that_refuses_the_operators_own_init_container(cluster: Cluster, tspctl: Tspctl):
    if not cluster.ours:
        pytest.skip("the operator of somebody else's cluster keeps its settings")
    operator = cluster.kubectl.within("kubeflow")
    args = operator.get("deployment", "training-operator")["spec"]["template"]["spec"]["containers"][0]["args"]
    plain = [argument for argument in args if "template-file" not in argument] + [TEMPLATE_FLAG + "/there/is/none"]
    set_arguments(cluster, plain)
    try:
        install_demo(tspctl, "workers", gpus="2")
        reason(tspctl, "workers", "Pod Security Standard restricted", "init container")
    finally:
        set_arguments(cluster, args)


TEMPLATE_FLAG = "--pytorch-init-container-template-file="


def set_arguments(cluster: Cluster, arguments: list[str]) -> None:
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]
    operator = cluster.kubectl.within("kubeflow")
    operator.run("patch", "deployment", "training-operator", "--type=json", "-p", json.dumps(patch))
    operator.run("rollout", "status", "deployment/training-operator", "--timeout=290s", timeout_sec=PATIENCE_SEC)
    # a rollout is over while the old pod still ends, and the API server may hold a connection to that one
    wait_for(lambda: len(operator.items("pods")) == 1, what="end of the old operator")
    badly_named = json.dumps(pytorch_job("1-digit-first", pod_spec(cluster.busybox, "true")))
    judge = ("create", "--dry-run=server", "-f", "-")
    wait_for(
        lambda: "admission webhook" in operator.try_run(*judge, stdin=badly_named).stderr,
        what="answer of the new operator's webhook",
    )


def test_the_same_name_twice_is_refused(tspctl: Tspctl):
    install_demo(tspctl, "taken", runPolicy__suspend="true")
    refused = tspctl.try_run("submit", *DEMO, "--name", "taken")
    assert refused.returncode == 2, refused.stderr
    assert "taken" in refused.stderr


def test_the_api_server_judges_a_dry_run_and_nothing_is_created(tspctl: Tspctl):
    tspctl.run("submit", *DEMO, "--gpus", "2", "--name", "on-paper", "--dry-run", "server")
    assert tspctl.kubectl.items("pytorchjobs") == []


@pytest.mark.parametrize("who", ["researcher", "administrator"])
def test_doctor_finds_all_in_order(tspctl: Tspctl, who: str):
    place = ("--kubeconfig", str(tspctl.kubectl.kubeconfig)) if who == "administrator" else ()
    found = {item["what"]: item["level"] for item in json.loads(tspctl.run("doctor", "-o", "json", *place))}
    assert found["training operator"] == "ok"
    # whose operator cannot be looked at is told what it needs to have
    assert found["security standard"] == ("ok" if who == "administrator" else "warning")
    assert found["permissions"] == "ok"
    assert "error" not in found.values()


def test_a_missing_right_is_named(tspctl: Tspctl):
    role = tspctl.kubectl.get("role", "tspctl")
    role["rules"] = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]}
        if "pytorchjobs" in rule["resources"] else rule
        for rule in role["rules"]
    ]  # fmt: skip
    role["metadata"].pop("managedFields", None)
    tspctl.kubectl.run("replace", "-f", "-", stdin=json.dumps(role))
    refused = tspctl.try_run("submit", *DEMO, "--name", "refused")
    assert refused.returncode == 4, refused.stderr
    assert "create pytorchjobs.kubeflow.org" in refused.stderr
    assert "k8s/role.yaml" in refused.stderr
