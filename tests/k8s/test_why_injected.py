"""Containers that a webhook adds to a pod, as a service mesh does: what they do to a run is told by their names."""

import pytest

from k8s.status import state_of
from k8s.why import why, why_pod
from tests.k8s.objects import indexed_job, job, node_pod, pod, shard, terminated, train_job, waiting

INITIALIZING = waiting("PodInitializing")
KINDS = [
    (job("Restarting"), pod, "rank 0"),
    (train_job("Suspended=False"), node_pod, "rank 0"),
    (indexed_job(), shard, "rank 0"),
]
OPERATORS = {"name": "init-pytorch", "state": {"running": {}}}


def failed_init(code, message="", **more):
    return {"name": "istio-init", "ready": False, "state": terminated(code, message=message), **more}


@pytest.mark.parametrize(("found", "make", "who"), KINDS)
def test_an_init_container_that_failed_is_named_with_its_last_words(found, make, who):
    """The pod's own container never ran, so nothing else says why the pod failed."""
    rank = make(0, "Failed", state=INITIALIZING, initContainerStatuses=[failed_init(7, "a\niptables: not permitted\n")])
    expected = f"{who} has the init container istio-init, which ended with exit code 7: iptables: not permitted"
    assert why_pod(rank) == expected
    assert expected in why(found, [rank, make(1)])


def test_a_failed_init_container_is_told_before_the_ranks_that_wait_for_the_master():
    master = pod(0, "Failed", state=INITIALIZING, initContainerStatuses=[failed_init(7)])
    worker = pod(1, "Pending", state=INITIALIZING, initContainerStatuses=[OPERATORS])
    assert why(job("Restarting"), [master, worker]) == (
        "restarting: rank 0 has the init container istio-init, which ended with exit code 7"
    )


def test_an_init_container_that_fails_again_and_again_is_told_with_how_it_ended():
    crashes = {"name": "istio-init", "state": waiting("CrashLoopBackOff", "back-off 5m0s"), "ready": False}
    crashes["lastState"] = terminated(7, message="iptables: not permitted")
    rank = pod(0, "Pending", state=INITIALIZING, initContainerStatuses=[crashes])
    expected = "rank 0 has the init container istio-init, which ended with exit code 7: iptables: not permitted"
    assert why(job(), [rank, pod(1)]) == expected


def test_an_init_container_that_succeeded_is_no_failure():
    done = {"name": "istio-init", "ready": True, "state": terminated(0), "lastState": terminated(1)}
    ended = pod(0, "Failed", state=terminated(3, message="row 7"), initContainerStatuses=[done])
    assert why(job("Failed"), [ended]) == "rank 0 ended with exit code 3 (bad data): row 7"


@pytest.mark.parametrize(("found", "make", "who"), KINDS)
def test_a_pod_in_an_init_container_of_others_is_not_said_to_wait_for_the_master(found, make, who):
    init = {"name": "istio-init", "state": {"running": {}}}
    rank = make(0, "Pending", state=INITIALIZING, initContainerStatuses=[init])
    assert why(found, [rank, make(1)]) == f"{who} waits for its init container istio-init"


def test_a_native_sidecar_keeps_running_and_nothing_waits_for_it():
    sidecar = {"name": "istio-proxy", "state": {"running": {}}, "started": True}
    rank = pod(1, "Pending", state=waiting("ContainerCreating"), initContainerStatuses=[sidecar])
    rank["spec"]["initContainers"] = [{"name": "istio-proxy", "restartPolicy": "Always"}]
    assert why(job(), [pod(0), rank]) is None


def test_workers_that_wait_for_a_master_with_a_dead_sidecar_hear_of_it():
    """Its pod is not ready, so the operator's Service has no address for it."""
    master = pod(0)
    master["spec"]["containers"] = [{"name": "istio-proxy"}, {"name": "pytorch"}]
    master["status"]["containerStatuses"].insert(0, {"name": "istio-proxy", "state": terminated(9), "lastState": {}})
    worker = pod(1, "Pending", state=INITIALIZING, initContainerStatuses=[OPERATORS])
    assert why(job("Running"), [master, worker]) == (
        "rank 1 waits for the master's name (the operator's init container): the pod of rank 0 is not ready, since its "
        "container istio-proxy ended with exit code 9"
    )
    assert state_of(job("Running"), [master, worker]) == "running"
