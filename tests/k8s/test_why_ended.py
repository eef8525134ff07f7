"""Why a run failed, restarts or was stopped: the first cause, from pods, events and logs."""

import json

import pytest

from k8s.why import why
from tests.k8s.objects import (
    event,
    job,
    pod,
    terminated,
)


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        (
            [pod(0, "Failed", state=terminated(143)), pod(1, "Failed", state=terminated(137, "OOMKilled"))],
            "rank 1 was OOM-killed: it used more memory than its limit; raise resources.limits.memory, "
            "or lower data.workers or shm.sizeLimit",
        ),
        (
            [pod(0, "Failed", state=terminated(3, message="INFO start\nerror: /data/train.csv has no row\n"))],
            "rank 0 ended with exit code 3 (bad data): error: /data/train.csv has no row",
        ),
        ([pod(0, "Failed", state=terminated(77))], "rank 0 ended with exit code 77"),
        (
            [pod(0, "Failed", reason="Evicted", message="The node was low on resource: memory. ")],
            "rank 0 was evicted from node node-a: The node was low on resource: memory.",
        ),
        ([], "the operator said so"),
    ],
)
def test_a_failed_run_names_its_cause(pods, expected):
    assert why(job("Failed", message="the operator said so"), pods) == expected


def test_a_failure_whose_pods_are_gone_is_told_by_the_operators_events():
    events = [event("ExitedWithCode", "Pod: video.my-run-worker-0 exited with code 2")]
    assert why(job("Failed"), [], events) == "pod my-run-worker-0 ended with exit code 2 (bad configuration)"


@pytest.mark.parametrize(
    "failed",
    [
        job("Failed", message="Job my-run has failed because it was active longer than specified deadline"),
        job("Failed", reason="DeadlineExceeded"),
    ],
)
def test_a_deadline_is_named(failed):
    assert why(failed) == "it ran longer than its deadline allows (--deadline, runPolicy.activeDeadlineSeconds)"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("PreemptionByScheduler", "was preempted by a pod of higher priority"),
        ("EvictionByEvictionAPI", "was evicted (its node is being drained)"),
        ("DeletionByTaintManager", "was removed from a node that was tainted (not ready, or being emptied)"),
        ("NewReason", "says the cluster"),
    ],
)
def test_a_run_that_lost_a_pod_to_the_cluster_says_so(reason, words):
    lost = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "says the cluster"}
    assert why(job("Restarting"), [pod(0), pod(1, "Failed", conditions=[lost])]) == f"restarting: rank 1 {words}"


def test_a_restarting_run_tells_what_it_lost_even_when_the_pod_is_gone():
    events = [event("ExitedWithCode", "Pod: video.my-run-worker-0 exited with code 137")]
    expected = "restarting: pod my-run-worker-0 ended with exit code 137 (killed (out of memory, or by force))"
    assert why(job("Restarting"), [pod(0), pod(1)], events) == expected


def exited(pod_name, code, at):
    return event("ExitedWithCode", f"Pod: video.{pod_name} exited with code {code}", at=f"2030-01-01T01:{at}Z")


def test_the_reason_is_the_first_cause_and_not_the_rank_that_missed_its_peer():
    """The killed rank's pod is replaced at once; only the operator's event still tells its end."""
    missed = pod(0, "Failed", state=terminated(150, message="rank 0 ERROR another rank was lost"))
    events = [exited("my-run-worker-0", 137, "00:00"), exited("my-run-master-0", 150, "00:09")]
    reason = why(job("Restarting"), [missed, pod(1, "Pending", node=None)], events)
    assert reason == "restarting: pod my-run-worker-0 ended with exit code 137 (killed (out of memory, or by force))"
    assert why(job("Restarting"), [], events) == reason


def test_an_earlier_failure_is_not_the_cause_of_a_later_one():
    events = [exited("my-run-worker-1", 137, "00:00"), exited("my-run-master-0", 151, "30:00")]
    assert (
        why(job("Restarting"), [], events)
        == "restarting: pod my-run-master-0 ended with exit code 151 (store unreachable)"
    )


@pytest.mark.parametrize(
    "line",
    [
        "2030-01-01T01:00:00Z rank 0 ERROR the disk is full",
        "2030-01-01 01:00:00,123 ERROR the disk is full",
        "rank 3 ERROR the disk is full",
        "ERROR: the disk is full",
        "the disk is full",
    ],
)
def test_a_reason_has_neither_time_stamp_nor_rank_nor_level(line):
    ended = pod(0, "Failed", state=terminated(5, message=f"a line\n{line}\n"))
    assert why(job("Failed"), [ended]) == "rank 0 ended with exit code 5 (store refused): the disk is full"


@pytest.mark.parametrize("evicted", [0, 1])
def test_of_a_pod_that_failed_and_one_that_was_taken_away_the_one_that_failed_is_the_cause(evicted):
    pods = [
        pod(rank, "Failed", reason="Evicted", message="low on memory")
        if rank == evicted
        else pod(rank, "Failed", state=terminated(3))
        for rank in (0, 1)
    ]
    said = why(job("Failed"), json.loads(json.dumps(pods)))
    assert said.startswith(f"rank {1 - evicted} ended with exit code 3")
    alone = why(job("Failed"), [pods[evicted]])
    assert "was evicted" in alone
