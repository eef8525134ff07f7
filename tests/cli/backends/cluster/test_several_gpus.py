"""Runs whose pods hold several ranks: planned, refused, shown, and entered rank by rank."""

import json

import pytest

from cli.backends.base import BackendOptions
from cli.backends.cluster import backend as cluster_backend
from cli.backends.cluster.room import check_room
from k8s.node_plan import plan_nodes
from k8s.nodes import nodes_for, with_room
from tests.k8s.objects import job, node_pod, pod, terminated, train_job, with_ranks
from tests.k8s.serving import gpu_node, serve_run
from tsp.errors import ClusterError, ConfigError

NVIDIA = {"gpu_resource": "nvidia.com/gpu", "memory_label": "nvidia.com/gpu.memory"}


def options(**pods):
    return BackendOptions(pods=pods)


def test_what_a_run_trains_with_does_not_depend_on_how_its_gpus_are_shared_out(api, backend, real_helm, config):
    api.objects["/api/v1/nodes"] = [gpu_node("a", "16384", gpus="8")]
    one, four = backend.plan(config, options()), backend.plan(config, options(gpus_per_pod=4))
    assert one.effective == four.effective
    assert one.config == four.config
    # The words say what a pod requests; what a rank gets of it is the same.
    said_of_one, said_of_four = ([line.split(" (")[0] if line.startswith("data workers") else line
                                  for line in plan.explanation] for plan in (one, four))  # fmt: skip
    assert (one.nodes.downscale, said_of_one) == (four.nodes.downscale, said_of_four)
    assert any(line.startswith("data workers: 4 per rank") for line in four.explanation)
    assert (four.values["gpus"], four.values["gpusPerPod"]) == (4, 4)


def test_gpus_that_pods_cannot_share_out_evenly_are_refused_before_anything_is_asked(api, backend, real_helm, config):
    with pytest.raises(ConfigError, match="--gpus 4 is not a multiple of --gpus-per-pod 3"):
        backend.plan(config, options(gpus_per_pod=3))
    assert [path for _, path, _, _ in api.requests if "dryRun" in path] == []


@pytest.mark.parametrize(
    ("nodes", "gpus", "per_pod", "said"),
    [
        ({"a": "8"}, 8, 8, None),
        ({"a": "4", "b": "4"}, 8, 4, None),
        ({"a": "4", "b": "2"}, 8, 8, "no node has the 8 GPUs of a pod; a has the most, 4"),
        ({"a": "6", "b": "6"}, 12, 4, "--gpus 12 in pods of 4 (--gpus-per-pod), but whole pods for only 8 ranks fit"),
        ({"a": "4"}, 8, 4, "the nodes that ranks can use have 4 GPUs in total"),
    ],
)  # fmt: skip
def test_pods_that_no_node_could_ever_hold_are_refused(nodes, gpus, per_pod, said):
    found = nodes_for(
        [gpu_node(name, "81559", gpus=count) for name, count in nodes.items()], {}, **NVIDIA, gpus_per_pod=per_pod
    )
    able, lines = with_room(found, per_pod)
    plan = plan_nodes(able, gpus=gpus, downscale="auto")
    if said is None:
        check_room(plan, gpus, per_pod)
        return
    plan = plan if not lines else type(plan)(downscale=None, gpus=plan.gpus, explanation=lines)
    with pytest.raises(ClusterError) as refused:
        check_room(plan, gpus, per_pod)
    assert said in str(refused.value)


@pytest.mark.parametrize(("found", "of"), [(job("Running"), pod), (train_job("Suspended=False", ready=1), node_pod)])
def test_every_rank_is_shown_and_can_be_entered(api, backend, monkeypatch, found, of):
    pods = [with_ranks(of(index), 4) for index in range(2)]
    serve_run(api, with_ranks(found, 4), pods)
    status = backend.status("my-run")
    assert (status.state, status.gpus) == ("running", 8)
    assert [(rank.rank, rank.state, rank.where) for rank in status.ranks] == [
        (rank, "running", "node-a") for rank in range(8)
    ]
    entered = []
    monkeypatch.setattr(
        cluster_backend, "run_in_pod", lambda cluster, name, container, command: entered.append((name, command)) or 0
    )
    assert backend.execute("my-run", 6, ("nvidia-smi",)) == 0
    assert entered == [(pods[1]["metadata"]["name"], ("python", "-m", "tsp.run.pod_ranks", "2", "nvidia-smi"))]
    with pytest.raises(ConfigError, match="run my-run has no rank 8: its ranks are 0 to 7"):
        backend.execute("my-run", 8, ("true",))


@pytest.mark.parametrize(("found", "of"), [(job("Failed"), pod), (train_job("Failed"), node_pod)])
def test_the_rank_that_brought_its_pod_down_is_named(api, backend, found, of):
    last = "2030-01-01T00:00:01.000Z rank 6 ERROR ended with exit code 3 (bad data): clip 7 of a.mp4 is broken"
    failed = of(1, "Failed", state=terminated(3, message=f"rank 6 Traceback\n{last}\n"))
    lost = of(0, "Failed", state=terminated(150, finished="2030-01-01T00:00:00Z"))
    serve_run(api, with_ranks(found, 4), [with_ranks(lost, 4), with_ranks(failed, 4)])
    status = backend.status("my-run")
    assert (status.state, status.exit_code) == ("failed", 3)
    assert status.reason == "rank 6 ended with exit code 3 (bad data): clip 7 of a.mp4 is broken"
    assert json.dumps(status.ranks[0].reason) == '"rank 0 ended with exit code 150 (another rank was lost)"'
