"""From the memory of GPUs to batch and learning rates."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.e2e.kubectl import Kubectl
from tests.e2e.nodes import GPU, MEMORY_LABEL, gpu_memory
from tests.e2e.places import Cluster
from tests.e2e.researcher import may_not_list_nodes
from tests.e2e.tspctl import Tspctl

pytestmark = pytest.mark.e2e

DEMO = ("--dataset", "demo", "--method", "tac", "--epochs", "1", "--clips-per-segment", "1")


def planned(tspctl: Tspctl, *arguments: str) -> dict:
    return json.loads(tspctl.run("submit", *DEMO, "--dry-run", "-o", "json", *arguments))


def test_cards_of_16_gb_halve_batch_and_learning_rates_in_the_pods(cluster: Cluster, tspctl: Tspctl):
    with gpu_memory(cluster.kubectl, cluster.node, 16384):
        tspctl.run("submit", *DEMO, "--gpus", "2", "--name", "small", "--follow", timeout_sec=480)
    config, progress = tspctl.stored("small", "run.json")["config"], tspctl.stored("small", "progress.json")
    assert progress["downscale"] == 2
    assert progress["batch_per_gpu"] == config["batch_per_gpu"] // 2
    assert progress["global_batch"] == config["batch_per_gpu"]
    # two ranks double the rates, the factor halves them
    assert progress["head_lr"] == pytest.approx(config["optim"]["head_lr"])
    assert progress["backbone_lr"] == pytest.approx(config["optim"]["backbone_lr"])
    terms = tspctl.kubectl.get("pytorchjob", "small")["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    assert "16384" in json.dumps(terms["affinity"]["nodeAffinity"]), "the scheduler must keep to the plan"


@pytest.mark.parametrize(("memory_mib", "factor"), [(81559, "1"), (7680, "4")])
def test_the_nodes_label_decides(cluster: Cluster, tspctl: Tspctl, memory_mib: int, factor: str):
    with gpu_memory(cluster.kubectl, cluster.node, memory_mib):
        assert planned(tspctl)["config"]["downscale"] == factor


def test_mixed_nodes_give_the_worst_factor_that_can_be_hit(cluster: Cluster, tspctl: Tspctl):
    with gpu_memory(cluster.kubectl, cluster.node, 81559), a_node(cluster.kubectl, "tsp-e2e-small", 4, 15360):
        assert planned(tspctl)["config"]["downscale"] == "2"
        only_large = ("--chart-value", f"nodeSelector.kubernetes\\.io/hostname={cluster.node}")
        assert planned(tspctl, *only_large)["config"]["downscale"] == "1"


def test_on_an_unlabelled_cluster_the_pods_decide(cluster: Cluster, tspctl: Tspctl):
    with gpu_memory(cluster.kubectl, cluster.node, None):
        tspctl.run("submit", *DEMO, "--gpus", "1", "--name", "unknown", "--follow", timeout_sec=480)
    assert tspctl.stored("unknown", "run.json")["config"]["downscale"] == "auto"
    assert tspctl.stored("unknown", "progress.json")["downscale"] == 1


def test_who_may_not_list_nodes_leaves_it_to_the_pods(cluster: Cluster, tspctl: Tspctl):
    may_not_list_nodes(tspctl.kubectl)
    with gpu_memory(cluster.kubectl, cluster.node, 16384):
        assert planned(tspctl)["config"]["downscale"] == "auto"


def test_cards_that_are_too_small_are_refused_before_anything_is_created(cluster: Cluster, tspctl: Tspctl):
    with gpu_memory(cluster.kubectl, cluster.node, 4096):
        refused = tspctl.try_run("submit", *DEMO, "--name", "tiny-card")
    assert refused.returncode in (2, 4), refused.stderr
    assert "4096" in refused.stderr
    assert tspctl.kubectl.items("pytorchjobs,configmaps", "-l", "app.kubernetes.io/managed-by=Helm") == []


@contextlib.contextmanager
def a_node(kubectl: Kubectl, name: str, gpus: int, memory_mib: int) -> Iterator[None]:
    """A node on paper, ready for as long as the node controller believes it (40 s)."""
    labels = {"kubernetes.io/hostname": name, MEMORY_LABEL: str(memory_mib)}
    # kubectl apply would not write the status
    kubectl.run("create", "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
    }))  # fmt: skip
    try:
        amounts = {"cpu": "8", "memory": "64Gi", "pods": "10", GPU: str(gpus)}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "on paper"}
        status = {"status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}}
        kubectl.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        # unless the node controller has taken it off already
        kubectl.try_run("taint", "node", name, "node.kubernetes.io/not-ready-", "--overwrite")
        yield
    finally:
        kubectl.run("delete", "node", name)
