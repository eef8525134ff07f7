"""Pods that the cluster took away and a controller has replaced: events of Kubernetes 1.33, word for word."""

import pytest

from k8s.why import why, why_pod
from tests.k8s.objects import event, indexed_job, job, node_pod, pod, shard, train_job, unschedulable, with_ranks

BEGAN, TIME = "2030-01-01T00:00:00Z", "2030-01-01T01:00:00Z"


def gone(reason, message, *, of="my-run-worker-0", at=TIME, uid="former"):
    found = event(reason, message, of=of, at=at)
    found["involvedObject"] |= {"kind": "Pod", "uid": uid}
    return found


PREEMPTED = gone("Preempted", "Preempted by pod f412110e-2f63-43df-a4ca-4608b139b9f3 on node n2")
TAINTED = gone("TaintManagerEviction", "Marking for deletion Pod video/my-run-worker-0")
NOT_READY = gone("NodeNotReady", "Node is not ready")
EVICTED = gone("Evicted", "The node was low on resource: ephemeral-storage. ")
KILLING = gone("Killing", "Stopping container pytorch")
CANCELLED = gone("TaintManagerEviction", "Cancelling deletion of Pod video/my-run-worker-0")
WELL = job("Created", "Running"), [pod(0), pod(1)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (PREEMPTED, "was preempted by a pod of higher priority"),
        (TAINTED, "was removed from a node that was tainted (not ready, or being emptied)"),
        (NOT_READY, "was on a node that did not answer any more"),
        (EVICTED, "was evicted by its node: The node was low on resource: ephemeral-storage."),
        (KILLING, "was deleted, as when its node is drained"),
    ],
)
def test_a_run_that_runs_again_tells_what_took_its_pod(found, words):
    assert why(*WELL, [found]) == f"restarted: rank 1 {words}"
    assert why(job("Restarting"), WELL[1], [found]) == f"restarting: rank 1 {words}"
    assert why(job("Failed", message="the operator said so"), [], [found]) == f"rank 1 {words}"
    missed = gone("ExitedWithCode", "Pod: video.my-run-master-0 exited with code 150", of="my-run", at=TIME)
    assert why(*WELL, [found, missed]) == f"restarted: rank 1 {words}"


def test_what_a_lost_run_waits_for_is_told_with_what_it_lost():
    waits = [pod(0, "Pending", node=None), unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", 1)]
    told = why(job("Restarting"), waits, [PREEMPTED])
    assert told.startswith("rank 1 was preempted by a pod of higher priority; rank 1 cannot be scheduled: not enough")


@pytest.mark.parametrize(
    "found",
    [
        CANCELLED,
        gone("Preempted", "Preempted by pod a on node b", uid="uid-1"),
        gone("Preempted", "Preempted by pod a on node b", at="2029-12-31T23:59:59Z"),
        *(gone("Preempted", "m", of=name) for name in ("my-run-2-worker-0", "my-run-worker-0-x", "other-worker-0")),
        gone("Scheduled", "Successfully assigned video/my-run-worker-0 to n1"),
    ],
)
def test_no_event_of_a_pod_that_is_there_of_another_job_or_of_an_earlier_time_counts(found):
    assert why(*WELL, [found]) is None


def test_a_resumed_run_has_begun_anew():
    """Suspending it deleted its pods."""
    resumed, pods = WELL
    resumed = {**resumed, "status": {**resumed["status"], "startTime": "2030-01-01T02:00:00Z"}}
    assert why(resumed, pods, [KILLING]) is None


def test_a_resumed_train_job_tells_it_only_by_its_condition():
    """Which is there from the beginning, where it was installed suspended."""
    taken = gone("TaintManagerEviction", "Marking for deletion Pod video/x", of="my-run-node-0-1-x7k2p")
    pods = [node_pod(0), node_pod(1)]
    told = "restarted: rank 1 was removed from a node that was tainted (not ready, or being emptied)"
    for resumed_at, expected in (("2030-01-01T00:59:00Z", told), ("2030-01-01T01:01:00Z", None)):
        found = train_job(ready=2)
        suspended = {"type": "Suspended", "status": "False", "reason": "Resumed", "lastTransitionTime": resumed_at}
        found["status"]["conditions"] = [suspended]
        assert why(found, pods, [taken]) == expected


@pytest.mark.parametrize(
    ("found", "pods", "of", "rank"),
    [
        (*WELL, "my-run-master-0", "rank 0"),
        (train_job(ready=2), [node_pod(0), node_pod(1)], "my-run-node-0-1-x7k2p", "rank 1"),
        (indexed_job(), [shard(0), shard(1)], "my-job-1-x7k2p", "rank 1"),
        (
            with_ranks(job("Running", gpus=2), 4),
            [with_ranks(pod(0), 4), with_ranks(pod(1), 4)],
            "my-run-worker-0",
            "the pod of ranks 4 to 7",
        ),
    ],
)
def test_pods_of_every_kind_of_job_are_recognised(found, pods, of, rank):
    taken = gone("Preempted", "Preempted by pod a on node b", of=of)
    assert f"{rank} was preempted by a pod of higher priority" in why(found, pods, [taken])


def _stopped(*ranks, of="my-run-node-0"):
    return [gone("Killing", "Stopping container node", of=f"{of}-{rank}-x7k2p") for rank in ranks]


def _deleted(*ranks, of="my-run-node-0", prefix=""):
    """As the Job's controller tells of pods that it deletes, since another one has failed."""
    return [event("SuccessfulDelete", f"{prefix}Deleted pod: {of}-{rank}-x7k2p", of=of) for rank in ranks]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        # Rank 0 has failed by itself.
        ([*_stopped(1), *_deleted(1)], None),
        # Rank 1 was deleted, as by an administrator who empties its node.
        ([*_stopped(1, 0), *_deleted(0)], "restarted: rank 1 was deleted, as when its node is drained"),
        (_stopped(1), "restarted: rank 1 was deleted, as when its node is drained"),
        # Of many pods the events are combined: any may be meant.
        ([*_stopped(1, 0), *_deleted(0, prefix="(combined from similar events): ")], None),
    ],
)
def test_pods_that_a_job_deletes_for_another_are_no_cause(events, told):
    assert why(train_job(ready=2), [node_pod(0), node_pod(1)], events) == told
    shards = [shard(0), shard(1)]
    of_job = [gone("Killing", "m", of="my-job-1-x7k2p"), event("SuccessfulDelete", "Deleted pod: my-job-1-x7k2p")]
    assert "rank 1 was deleted, as when its node is drained" in str(why(indexed_job(), shards, of_job[:1]))
    assert why(indexed_job(), shards, of_job) is None


def test_the_first_pod_of_the_newest_loss_is_told():
    def at(minute, rank, reason):
        name = f"my-run-worker-{rank - 1}" if rank else "my-run-master-0"
        return gone(reason, "m", of=name, at=f"2030-01-01T01:{minute}:00Z")

    newest = [at("40", 1, "Preempted"), at("40", 0, "Preempted"), at("41", 1, "TaintManagerEviction")]
    found = [at("00", 1, "NodeNotReady"), *newest]
    assert why(*WELL, found) == "restarted: rank 0 was preempted by a pod of higher priority"


@pytest.mark.parametrize(
    "found", [TAINTED, PREEMPTED, gone("ExitedWithCode", "Pod: video.my-run-worker-0 exited with code 137")]
)
def test_a_node_that_was_away_for_a_moment_is_not_taken_for_what_ended_a_pod_later(found):
    away = gone("NodeNotReady", "Node is not ready", at="2030-01-01T00:58:00Z")
    told = why(*WELL, [away, found])
    assert told == why(*WELL, [found])
    assert "did not answer" not in told


def lost_node(rank, **more):
    """As the node controller leaves a pod: Ready is False, and everything else as the kubelet last said."""
    ready = {"type": "Ready", "status": "False"}
    return pod(rank, node="n1", conditions=[{"type": "ContainersReady", "status": "True"}, ready], **more)


def test_pods_on_a_node_that_does_not_answer_are_not_said_to_run():
    pods = [pod(0), lost_node(1)]
    assert why(WELL[0], pods) == why_pod(pods[1]) == "rank 1 is on node n1, which does not answer"
    told = why(WELL[0], [pod(0), lost_node(1, deleting=True)])
    assert told.startswith("rank 1 cannot end, since its node n1 does not answer")


@pytest.mark.parametrize("reason", ["ContainersNotReady", "ReadinessGatesNotReady"])
def test_a_pod_that_its_own_node_calls_not_ready_is_within_reach(reason):
    found = lost_node(1)
    found["status"]["conditions"][1]["reason"] = reason
    assert why(WELL[0], [pod(0), found]) is None


def test_a_pod_that_a_job_keeps_for_its_end_is_no_news_that_it_restarts():
    evicted = shard(1, "Failed", reason="Evicted", message="The node was low on resource: memory.")
    told = "rank 1 was evicted from node node-a: The node was low on resource: memory."
    working = indexed_job()
    working["status"] |= {"active": 2, "ready": 1}
    assert why(working, [shard(0), evicted]) == f"restarting: {told}"
    assert why(working, [shard(0), evicted, shard(1)]) == f"restarted: {told}"
    # as a list sees it
    working["status"]["ready"] = 2
    assert why(working, [evicted], present=3) == f"restarted: {told}"


@pytest.mark.parametrize(
    ("found", "pods", "refused", "of"),
    [
        (job("Restarting"), [pod(0)], "my-run-worker-0", "my-run-worker-0"),
        (train_job(active=1), [node_pod(0)], "my-run-node-0-1-aaaaa", "my-run-node-0-1-bbbbb"),
    ],
)
def test_a_refusal_is_past_once_a_pod_of_the_same_rank_was_there(found, pods, refused, of):
    """The operator tells of no creation after so many events, and of a later refusal neither."""
    quota = event("FailedCreatePod", f'Error creating: pods "{refused}" is forbidden: exceeded quota: q, more than 2')
    for at, is_past in {TIME: False, "2030-01-01T00:59:00Z": False, "2030-01-01T01:00:01Z": True}.items():
        told = why(found, pods, [quota, gone("Killing", "Stopping container pytorch", of=of, at=at)])
        assert ("quota q is exceeded" in told) is not is_past, at
        assert "rank 1 was deleted" in told or not is_past
    other = gone("Killing", "Stopping container pytorch", of="my-run-master-0", at="2030-01-01T01:00:01Z")
    assert "quota q is exceeded" in why(found, pods, [quota, other])
