"""Conditions and pods to one state."""

import json
from datetime import UTC, datetime

import pytest

from k8s.names import is_of_run, kind_of, main_container_of, owner_of, pods_of, rank_of, ranks_in, ranks_of
from k8s.status import created_at, culprit, ended_at, pod_status, state_of
from tests.k8s.objects import job, node_pod, pod, shard, terminated, train_job, with_ranks

QUEUED = {"labels": {"kueue.x-k8s.io/queue-name": "team"}}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (job(), "pending"),
        (job("Created"), "pending"),
        (job("Created", "Running"), "running"),
        (job("Created", "Running=False", "Restarting"), "restarting"),
        (job("Created", "Restarting=False", "Running"), "running"),
        (job("Created", "Running=False", "Succeeded"), "succeeded"),
        (job("Created", "Running=False", "Failed"), "failed"),
        # the operator appends in no useful order: the last one is not the state
        (job("Succeeded", "Created", "Running=False"), "succeeded"),
        (job("Created", "Running=False", "Suspended", suspend=True), "suspended"),
        # the field counts before the operator has seen it, and a stale condition does not
        (job("Created", "Running", suspend=True), "suspended"),
        (job("Created", "Running=False", "Suspended=False"), "pending"),
        (job("Created", "Suspended=False", "Running"), "running"),
        (job("Created", "Restarting", "Suspended", suspend=True), "suspended"),
        # Kueue holds back by the same field
        (job("Created", "Suspended", suspend=True, **QUEUED), "pending"),
        (job("Created", "Suspended", suspend=True, annotations={"tspctl/stopped": "suspended"}, **QUEUED), "suspended"),
        (job("Created", "Suspended", suspend=True, annotations={"tspctl/stopped": "cancelled"}), "cancelled"),
        (job("Succeeded", suspend=True, annotations={"tspctl/stopped": "cancelled"}), "succeeded"),
        (job("Failed", suspend=True, annotations={"tspctl/stopped": "cancelled"}), "cancelled"),
    ],
)
def test_conditions_make_one_state(found, state):
    assert state_of(found) == state


@pytest.mark.parametrize(
    ("found", "pods", "state"),
    [
        (train_job(), [], "pending"),
        (train_job("Suspended=False"), [], "pending"),
        (train_job(ready=1), [], "running"),
        (train_job("Suspended=False", ready=1), [], "running"),
        (train_job("Suspended=False"), [node_pod(0, "Pending")], "pending"),
        # some of the pods are enough, as with the operator
        (train_job("Suspended=False"), [node_pod(0), node_pod(1, "Pending")], "running"),
        (train_job("Suspended=False"), [node_pod(0, "Pending", restarts=1)], "restarting"),
        (train_job("Complete"), [], "succeeded"),
        (train_job("Failed"), [], "failed"),
        (train_job("Suspended", suspend=True), [], "suspended"),
        (train_job("Suspended=False", suspend=True, ready=1), [], "suspended"),
        (train_job("Suspended", suspend=True, **QUEUED), [], "pending"),
        (train_job("Suspended", suspend=True, annotations={"tspctl/stopped": "suspended"}, **QUEUED), [], "suspended"),
        (train_job("Suspended", suspend=True, annotations={"tspctl/stopped": "cancelled"}), [], "cancelled"),
        (train_job("Complete", suspend=True, annotations={"tspctl/stopped": "cancelled"}), [], "succeeded"),
        (train_job("Failed", suspend=True, annotations={"tspctl/stopped": "cancelled"}), [], "cancelled"),
    ],
)
def test_a_trainjob_has_the_same_states(found, pods, state):
    assert state_of(found, pods) == state


def test_a_resumed_run_runs_as_soon_as_a_pod_does_whatever_the_conditions_say():
    assert state_of(job("Created", "Suspended=False"), [pod(0, "Running")]) == "running"


@pytest.mark.parametrize(
    ("status", "suspend", "state"),
    [
        ({}, False, "pending"),
        ({"active": 2, "ready": 0}, False, "pending"),
        ({"active": 2, "ready": 1}, False, "running"),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, False, "succeeded"),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, False, "failed"),
        ({"conditions": [{"type": "Suspended", "status": "True"}]}, True, "suspended"),
    ],
)
def test_an_indexed_job_has_the_same_states(status, suspend, state):
    found = {"metadata": {"name": "x"}, "spec": {"suspend": suspend, "completions": 3}, "status": status}
    assert state_of(found) == state
    assert ranks_of(found) == 3


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (pod(phase="Pending", node=None), "pending"),
        (pod(phase="Pending"), "starting"),
        (pod(phase="Running"), "running"),
        (pod(phase="Running", deleting=True), "terminating"),
        (pod(phase="Failed", deleting=True), "failed"),
        (pod(phase="Succeeded"), "succeeded"),
        (pod(phase="Running", state={"waiting": {"reason": "CrashLoopBackOff"}}), "starting"),
    ],
)
def test_what_a_pod_does(found, state):
    assert pod_status(found).state == state


def test_ranks_are_numbered_as_the_operator_numbers_them():
    assert [rank_of(pod(rank)) for rank in (0, 1, 7)] == [0, 1, 7]
    indexed = {"metadata": {"labels": {"batch.kubernetes.io/job-completion-index": "5"}}}
    assert rank_of(indexed) == 5
    assert [rank_of(node_pod(rank)) for rank in (0, 1, 7)] == [0, 1, 7]
    assert ranks_of(job(gpus=8)) == ranks_of(train_job(gpus=8)) == 8
    assert kind_of(job(labels={"app.kubernetes.io/component": "gvf"})) == "gvf"


@pytest.mark.parametrize("of", [pod, node_pod])
def test_ranks_of_a_pod_that_holds_several_follow_each_other(of):
    pods = [with_ranks(of(index), 4) for index in range(3)]
    assert [list(ranks_in(found)) for found in pods] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert [pod_status(found).who for found in pods[:2]] == ["the pod of ranks 0 to 3", "the pod of ranks 4 to 7"]
    assert pod_status(of(1)).who == "rank 1"
    for found in (job(gpus=3), train_job(gpus=3)):
        assert (pods_of(with_ranks(found, 4)), ranks_of(with_ranks(found, 4))) == (3, 12)


def test_jobsets_restarts_are_a_pods():
    assert pod_status(node_pod(0, restarts=3)).restarts == 3


def test_pods_belong_to_the_job_that_tspctl_knows():
    assert [owner_of(found) for found in (pod(), node_pod(), shard())] == ["my-run", "my-run", "my-job"]
    assert main_container_of({"containers": [{"name": "istio-proxy"}, {"name": "node"}]})["name"] == "node"


def test_a_pod_tells_node_restarts_and_how_it_ended():
    status = pod_status(pod(1, restarts=3, last=terminated(137, "OOMKilled")))
    assert (status.node, status.restarts, status.ended.exit_code, status.ended.reason) == (
        "node-a",
        3,
        137,
        "OOMKilled",
    )


@pytest.mark.parametrize(
    ("ends", "cause"),
    [
        # the permanent error came last, but the others only followed its rank out
        ([(143, "01"), (150, "02"), (3, "03")], 2),
        ([(150, "01"), (137, "02"), (143, "00")], 1),
        ([(150, "02"), (150, "01"), (0, "00")], 1),
        ([(1, "02"), (2, "01"), (1, "03")], 1),
    ],
)
def test_the_culprit_is_the_pod_that_brought_the_others_down(ends, cause):
    pods = [
        pod_status(pod(rank, "Failed", state=terminated(code, finished=f"2030-01-01T01:00:{second}Z")))
        for rank, (code, second) in enumerate(ends)
    ]
    assert culprit(pods).rank == cause


def test_restarts_of_the_container_and_of_all_pods_add_up():
    found = node_pod(0, restarts=1)
    found["status"]["containerStatuses"][0]["restartCount"] = 3
    assert pod_status(found).restarts == 4


@pytest.mark.parametrize(
    ("seen", "image_id"),
    [("docker-pullable://a/b@sha256:0", "a/b@sha256:0"), ("docker://sha256:0", "sha256:0"), ("a/b@sha256:0",) * 2,
     ("", None), (None, None)],
)  # fmt: skip
def test_an_image_is_known_by_its_digest_whatever_the_runtime_writes_before_it(seen, image_id):
    found = pod(0)
    found["status"]["containerStatuses"][0]["imageID"] = seen
    assert pod_status(found).image_id == image_id


@pytest.mark.parametrize(
    ("spec", "pods"),
    [
        ({"runtimeRef": {}}, 1),
        ({"runtimeRef": {}, "trainer": {"numNodes": 3}}, 3),
        ({}, 1),
        ({"completions": 2}, 2),
        ({"pytorchReplicaSpecs": {"Master": {}, "Worker": {"replicas": 2}}}, 3),
        ({"pytorchReplicaSpecs": {"Master": {"replicas": 1}, "Worker": {}}}, 2),
    ],
)
def test_a_job_wants_one_pod_unless_it_says_more(spec, pods):
    assert pods_of({"metadata": {"name": "x"}, "spec": spec}) == pods


@pytest.mark.parametrize(
    ("labels", "is_its"),
    [
        ({"app.kubernetes.io/part-of": "tspctl", "app.kubernetes.io/instance": "my-run"}, True),
        ({"app.kubernetes.io/part-of": "other", "app.kubernetes.io/instance": "my-run"}, False),
        ({"app.kubernetes.io/part-of": "tspctl", "app.kubernetes.io/instance": "my-runs"}, False),
        ({"app.kubernetes.io/instance": "my-run"}, False),
        (None, False),
    ],
)
def test_an_object_is_of_a_run_by_both_its_labels(labels, is_its):
    assert is_of_run(json.loads(json.dumps({"metadata": {"labels": labels}})), "my-run") is is_its


def test_nobody_is_to_blame_where_nobody_failed():
    assert culprit([pod_status(pod()), pod_status(pod(1, "Succeeded", state=terminated(0, "Completed")))]) is None


def test_times_have_a_zone_and_a_failure_without_completion_time_has_its_conditions():
    assert created_at(job()) == datetime(2030, 1, 1, tzinfo=UTC)
    assert ended_at(job("Failed")) == datetime(2030, 1, 1, 1, tzinfo=UTC)
    assert ended_at(job("Running")) is None


def test_a_sidecar_is_not_taken_for_the_rank():
    """Injected containers come first as often as last."""
    found = pod(0, "Failed", state=terminated(3))
    sidecar = {"name": "istio-proxy", "restartCount": 7, "state": {"running": {}}, "lastState": {}}
    found["spec"]["containers"] = [{"name": "istio-proxy"}, {"name": "pytorch"}]
    found["status"]["containerStatuses"].insert(0, sidecar)
    assert (pod_status(found).ended.exit_code, pod_status(found).restarts) == (3, 0)
    assert main_container_of(found)["name"] == "pytorch"
    named = {
        "metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "b"}},
        "spec": {"containers": [{"name": "b"}, {"name": "pytorch"}]},
    }
    assert main_container_of(named)["name"] == "pytorch"
