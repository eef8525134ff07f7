"""GPUs by node: what they are, who holds them, what is free."""

import json

import pytest

from k8s.gpus import is_gpu, node_gpus, other_gpus
from tests.k8s.objects import node_pod, pod, with_ranks
from tests.k8s.serving import PODS, gpu_node


def holding(found, gpus, *, node="node-a", namespace="video", run=None, resource="nvidia.com/gpu"):
    found["spec"] |= {
        "nodeName": node,
        "containers": [{"name": "pytorch", "resources": {"limits": {resource: str(gpus)}}}, {"name": "sidecar"}],
    }
    found["metadata"]["namespace"] = namespace
    if run is not None:
        found["metadata"]["labels"] |= {
            "app.kubernetes.io/part-of": "tspctl",
            "app.kubernetes.io/instance": run,
        }
    return found


def test_what_runs_and_others_hold_is_not_free():
    nodes = [gpu_node("node-b", None, gpus="2"), gpu_node("node-a", "81559", gpus="8")]
    nodes[1]["metadata"]["labels"] |= {
        "nvidia.com/gpu.product": "NVIDIA-H100",
        "nvidia.com/cuda.driver-version.full": "570.86.15",
    }
    pods = [
        holding(pod(0), 1, run="my-run"),
        holding(pod(1), 1, run="my-run"),
        holding(with_ranks(node_pod(0), 2), 2, run="pairs", namespace="team"),
        holding(pod(0), 1),
        holding(pod(0, "Succeeded"), 1, run="done"),
        holding(pod(0, "Pending"), 1, node=None, run="waiting"),
        holding(pod(0), 1, node="node-b", run="my-run"),
    ]
    pods += [holding(pod(0), "many", run="unreadable"), holding(pod(0, "Failed"), 1, run="failed")]
    nodes, pods = json.loads(json.dumps([nodes, pods]))
    first, second = node_gpus(nodes, pods, namespace="video")
    assert (first.node, first.kind, first.memory, first.driver) == ("node-a", "NVIDIA-H100", "81559", "570.86.15")
    assert (first.total, first.free) == (8, 3)
    assert first.holders == {"my-run": 2, "team/pairs": 2, "my-run-master-0": 1}
    assert (second.node, second.kind, second.memory, second.free) == ("node-b", None, None, 1)


CONDITIONS = ("not-ready", "unreachable", "memory-pressure", "disk-pressure", "network-unavailable", "out-of-service")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_node_that_kubernetes_has_tainted_has_nothing_free(condition):
    node = gpu_node("node-a", "81559")
    node["spec"]["taints"] = [{"key": f"node.kubernetes.io/{condition}", "effect": "NoSchedule"}]
    (found,) = node_gpus([node], [], namespace="video")
    assert (found.total, found.free) == (4, 0)
    node["spec"]["taints"] = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    assert node_gpus([node], [], namespace="video")[0].free == 4


def test_the_pods_of_a_large_cluster_are_gone_through_once_and_not_for_each_node():
    nodes = [gpu_node(f"node-{number}", "81559") for number in range(2000)]
    pods = [holding(pod(0), 1, node=f"node-{number % 2000}") for number in range(4000)]
    reads = 0

    class Counting(dict):
        def get(self, key, default=None):
            nonlocal reads
            reads += key == "nodeName"
            return super().get(key, default)

    for item in pods:
        item["spec"] = Counting(item["spec"])
    assert {found.free for found in node_gpus(nodes, pods, namespace="video")} == {2}
    assert reads == len(pods)


def test_a_thousand_slices_are_written_1k_and_may_have_a_name_of_their_own():
    node = gpu_node("node-a", "81559", gpus="1k")
    node["status"]["allocatable"]["nvidia.com/mig-1g.10gb.shared"] = "2k"
    node["metadata"]["labels"]["nvidia.com/mig-1g.10gb.memory"] = "9728"
    whole, parts = node_gpus([node], [holding(pod(0), "1k")], namespace="video")
    assert (whole.total, whole.free, parts.total, parts.memory) == (1000, 0, 2000, "9728")


def test_parts_of_a_card_have_a_line_each_and_their_own_memory():
    node = gpu_node("node-a", "81559", gpus="0")
    node["status"]["allocatable"] |= {"nvidia.com/mig-1g.10gb": "7", "cpu": "8", "rdma/hca": "4"}
    node["metadata"]["labels"] |= {
        "nvidia.com/mig-1g.10gb.memory": "9728",
        "nvidia.com/gpu.product": "H100-MIG-1g.10gb",
    }
    (found,) = node_gpus([node], [holding(pod(0), 1, resource="nvidia.com/mig-1g.10gb")], namespace="video")
    assert (found.resource, found.memory, found.kind, found.free) == (
        "nvidia.com/mig-1g.10gb", "9728", "H100-MIG-1g.10gb", 6,
    )  # fmt: skip


def test_a_cordoned_node_has_nothing_free():
    node = gpu_node("node-a", "16384")
    node["spec"]["unschedulable"] = True
    (found,) = node_gpus([node], [], namespace="video")
    assert (found.total, found.free) == (4, 0)


@pytest.mark.parametrize(
    ("resource", "yes"),
    [("nvidia.com/gpu", True), ("amd.com/gpu", True), ("nvidia.com/gpu.shared", True), ("nvidia.com/mig-1g.5gb", True),
     ("cpu", False), ("gpu", False), ("rdma/hca", False), ("vpc.amazonaws.com/efa", False)],
)  # fmt: skip
def test_gpus_are_told_from_other_devices(resource, yes):
    assert is_gpu(resource) is yes


@pytest.mark.parametrize("sees_all", [True, False])
def test_the_command_shows_them_with_the_rights_of_submit(api, cluster, tspctl, tmp_path, sees_all):
    api.objects["/api/v1/nodes"] = [gpu_node("node-a", "16384")]
    own, other = holding(pod(0), 1, run="my-run"), holding(pod(1), 2, namespace="other")
    api.objects[PODS] = [own]
    api.objects["/api/v1/pods"] = [own, other] if sees_all else (lambda *_: (403, {"message": "no"}))
    (tmp_path / "tspctl.toml").write_text(f'kubeconfig = "{cluster.where.kubeconfig}"\n')
    shown = tspctl("gpus", "-o", "json")
    assert shown.code == 0, shown.err
    (row,) = json.loads(shown.out)
    held = {"my-run": 1, "other/my-run-worker-0": 2} if sees_all else {"my-run": 1}
    assert row == {
        "node": "node-a", "gpu": "nvidia.com/gpu", "memory": "16384 MiB", "driver": None, "total": 4,
        "free": 4 - sum(held.values()), "held_by": held,
    }  # fmt: skip
    assert ("no permission to list pods of other namespaces" in shown.err) is not sees_all
    table = tspctl("gpus").out.splitlines()
    assert table[0].split() == ["NODE", "GPU", "MEMORY", "DRIVER", "TOTAL", "FREE", "HELD", "BY"]
    assert "my-run (1)" in table[1]


def test_who_may_not_list_nodes_is_told_which_right_is_missing(api, cluster, tspctl, tmp_path):
    api.objects["/api/v1/nodes"] = lambda *_: (403, {"message": "no"})
    (tmp_path / "tspctl.toml").write_text(f'kubeconfig = "{cluster.where.kubeconfig}"\n')
    refused = tspctl("gpus")
    assert (refused.code, "list nodes in the whole cluster" in refused.err) == (4, True)


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"nvidia.com/gpu": "4", "cpu": "8"}, None),
        ({"nvidia.com/mig-1g.5gb": "0", "amd.com/gpu": "0"}, None),
        ({"nvidia.com/mig-1g.5gb": "7"}, "nodes have nvidia.com/mig-1g.5gb: to use one, set gpuResource (chart value)"),
        ({"nvidia.com/gpu.shared": "7"}, "nodes have nvidia.com/gpu.shared: to use one, set gpuResource (chart value)"),
        ({"amd.com/gpu": "8"}, "nodes have amd.com/gpu, on which CUDA does not run"),
        (
            {"gpu.intel.com/i915": "1", "habana.ai/gaudi": "8"},
            "nodes have gpu.intel.com/i915, habana.ai/gaudi, on which CUDA does not run",
        ),
        (
            {"amd.com/gpu": "1", "nvidia.com/mig-2g.10gb": "1"},
            "nodes have nvidia.com/mig-2g.10gb: to use one, set gpuResource (chart value); "
            "nodes have amd.com/gpu, on which CUDA does not run",
        ),
    ],
)
def test_gpus_that_pods_do_not_ask_for_are_named_with_what_can_be_done(resources, told):
    node = {"metadata": {"name": "a"}, "status": {"allocatable": resources}}
    assert other_gpus([node, {"metadata": {"name": "b"}}], "nvidia.com/gpu") == told
