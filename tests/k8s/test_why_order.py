"""The cause of a wait is told, in whatever order pods and events come, not what merely follows from it."""

import itertools

import pytest

from k8s.why import why
from tests.k8s.objects import (
    event,
    pod,
    unschedulable,
    waiting,
)
from tests.k8s.reasons import IN_INIT, PENDING, PSS, QUOTA

QUOTA_OF_MASTER = event("FailedCreatePod", QUOTA.replace("worker", "master"))


QUOTA_OF_WORKER = event("FailedCreatePod", QUOTA)


STANDARD = event("FailedCreatePod", PSS.format("init-pytorch"))


NO_NODE = "0/1 nodes are available: 1 node(s) had untolerated taint {team: other}."


NO_MASTER_YET = "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."


CLAIM = {"spec": {"volumes": [{"name": "videos", "persistentVolumeClaim": {"claimName": "videos"}}]}}


WITHOUT_VOLUME = unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.") | CLAIM


IN_MASTERS_QUEUE = pod(1, "Pending", state=waiting("PodInitializing"), initContainerStatuses=[IN_INIT])


MOUNTS = pod(0, "Pending", state=waiting("ContainerCreating"))


def of_claim(reason, message, kind):
    return event(reason, message, of="videos") | {"type": kind}


def scheduled(rank):
    return event("FailedScheduling", NO_MASTER_YET, of="my-run-worker-0" if rank else "my-run-master-0")


ORDERS = {
    "quota for the master, a worker without a node":
        ([unschedulable(NO_MASTER_YET, 1)], [QUOTA_OF_MASTER, scheduled(1)], "quota gpu-quota is exceeded"),
    "quota for the worker, a master without a node":
        ([unschedulable(NO_NODE)], [QUOTA_OF_WORKER, event("FailedScheduling", NO_NODE, of="my-run-master-0")],
         "quota gpu-quota is exceeded"),
    "quota for both": ([], [QUOTA_OF_MASTER, QUOTA_OF_WORKER], "quota gpu-quota is exceeded"),
    "quota for the master, a worker in the operator's init container":
        ([IN_MASTERS_QUEUE], [QUOTA_OF_MASTER], "quota gpu-quota is exceeded"),
    "the standard for workers, a master at work": ([pod(0)], [STANDARD], "which refuses the operator's own init"),
    "the standard for workers, a master without a node":
        ([unschedulable(NO_NODE)], [STANDARD], "which refuses the operator's own init"),
    "no node for the master, none for its worker":
        ([unschedulable(NO_MASTER_YET, 1), unschedulable(NO_NODE)], [], "rank 0 cannot be scheduled: the nodes have"),
    "no node for the master, a worker that holds its GPU":
        ([IN_MASTERS_QUEUE, unschedulable(NO_NODE)], [], "rank 0 cannot be scheduled: the nodes have"),
    "no image for the worker, no node for the master":
        ([pod(1, "Pending", state=waiting("ErrImagePull")), unschedulable(NO_NODE)], [], "rank 1 cannot pull image"),
    "no Secret for either":
        ([pod(rank, "Pending", state=waiting("CreateContainerConfigError", 'secret "a" not found')) for rank in (1, 0)],
         [], 'rank 0 cannot start: secret "a" not found'),
    "a refusal of a pod that is there by now":
        ([unschedulable(NO_NODE), pod(1, "Pending", state=waiting("ContainerCreating"))], [QUOTA_OF_WORKER],
         "rank 0 cannot be scheduled: the nodes have"),
    "a claim whose controller fails, and tries again":
        ([WITHOUT_VOLUME], [of_claim("ProvisioningFailed", "no storage class", "Warning"),
                     of_claim("ExternalProvisioning", "waiting for a volume", "Normal")],
         "the volume claim videos is not bound: no storage class"),
    "a claim that only waits":
        ([WITHOUT_VOLUME], [of_claim("ExternalProvisioning", "waiting for a volume", "Normal"),
                     event("FailedScheduling", "unbound", of="my-run-master-0")],
         "the volume claim videos is not bound: waiting for a volume"),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDERS)
def test_whatever_happens_first_the_cause_is_told(case):
    pods, events, said = ORDERS[case]
    told = set()
    for of_pods in itertools.permutations(pods):
        for of_events in itertools.permutations(events):
            told.add(why(PENDING, of_pods, of_events))
            times = [item | {"lastTimestamp": f"2030-01-01T01:00:0{at}Z"} for at, item in enumerate(of_events)]
            told.add(why(PENDING, of_pods, times))
    assert all(said in (text or "") for text in told), told


@pytest.mark.parametrize("case", ORDERS)
def test_of_one_second_the_order_of_a_list_says_nothing(case):
    pods, events, _ = ORDERS[case]
    assert len({why(PENDING, pods, order) for order in itertools.permutations(events)}) == 1


def test_a_volume_that_failed_to_mount_is_no_news_once_the_image_is_pulled():
    failed = event("FailedMount", "no such server", of="my-run-master-0", at="2030-01-01T01:00:00Z")
    pulls = event("Pulling", "Pulling image", of="my-run-master-0", at="2030-01-01T01:00:09Z")
    assert "no such server" in why(PENDING, [MOUNTS], [failed])
    assert why(PENDING, [MOUNTS, pod(1)], [pulls, failed]) is None
    assert "no such server" in why(PENDING, [MOUNTS], [failed | {"lastTimestamp": "2030-01-01T01:00:10Z"}, pulls])
