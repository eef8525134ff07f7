"""All runs at once: what is asked of the API server for them, and what each is told to wait for."""

import logging

import pytest

from k8s.answers import ForbiddenError, NotFoundError
from k8s.names import JOB_UID_LABEL, PART_OF, QUEUE_LABEL, STOPPED_ANNOTATION, TRAINJOBS
from k8s.run_list import jobs_of_kind, list_views
from tests.k8s.objects import event, indexed_job, job, node_pod, pod, train_job, unschedulable

KINDS = {"pytorchjobs", "trainjobs", "jobs"}
NOT_WELL = "pods status.phase!=Running,status.phase!=Succeeded"
COUNT, PLACED, WORKLOADS = "pods, metadata", "pods status.phase=Running", "workloads"
EVENTS = {
    f"events reason={reason}"
    for reason in ("FailedCreatePod", "FailedCreate", "FailedCreateService", "TrainJobResourcesCreationFailed")
}


class Listing:
    """Lists in place of the API server's, chosen by field as there; keeps what is asked."""

    def __init__(self, *jobs, pods=(), events=(), workloads=(), refuse=()):
        kinds = {"runtimeRef": "trainjobs", "pytorchReplicaSpecs": "pytorchjobs", "completions": "jobs"}
        self.found = {"pods": list(pods), "events": list(events), "workloads": list(workloads)}
        for kind in KINDS:
            self.found[kind] = [
                item for item in jobs if kinds[next(key for key in kinds if key in item["spec"])] == kind
            ]
        self.refuse, self.asked = dict(refuse), set()

    def namespaced(self, group_version, resource):
        return f"{group_version} {resource}"

    def get(self, path):
        assert path == "/apis/kubeflow.org/v1"
        return {"resources": [{"name": "pytorchjobs"}]}

    def items(self, path, *, metadata_only=False, labelSelector=None, fieldSelector=None):
        version, kind = path.split()
        self.asked.add(f"{kind}{', metadata' if metadata_only else ''}{f' {fieldSelector}' if fieldSelector else ''}")
        assert labelSelector == (PART_OF if kind in KINDS | {"pods"} else None)
        for key in (kind, version):
            if key in self.refuse:
                raise self.refuse[key](f"{key} refused")
        for item in self.found[kind]:
            if all(
                self._has(item, *clause.rpartition("=")[::2]) for clause in (fieldSelector or "").split(",") if clause
            ):
                yield item

    @staticmethod
    def _has(item, field, value):
        found = item["reason"] if field == "reason" else item["status"]["phase"]
        return (found != value) if field.endswith("!") else (found == value)


def listed(*jobs, **more):
    """Name -> reason, in order, and what was asked besides the kinds of jobs."""
    cluster = Listing(*jobs, **more)
    views = {view.job["metadata"]["name"]: view for view in list_views(cluster)}
    return views, cluster.asked - KINDS


def of(name, item):
    """A pod of the PyTorchJob of that name."""
    item["metadata"]["labels"]["training.kubeflow.org/job-name"] = name
    return item


QUEUED = {"suspend": True, "labels": {QUEUE_LABEL: "q"}}


@pytest.mark.parametrize(
    ("found", "pods", "asked"),
    [
        ([], [], set()),
        ([job("Succeeded")], [], set()),
        ([job("Failed")], [], {NOT_WELL}),
        ([job(suspend=True)], [], {NOT_WELL, WORKLOADS}),
        ([job(suspend=True, annotations={STOPPED_ANNOTATION: "cancelled"})], [], set()),
        ([job("Restarting")], [pod(0, "Failed"), pod(1)], {NOT_WELL, COUNT}),
        ([job("Running")], [pod(0), pod(1)], {NOT_WELL, COUNT}),
        ([job("Restarting")], [pod(0), pod(1)], {NOT_WELL, COUNT}),
        ([job()], [pod(0, "Pending"), pod(1, "Pending")], {NOT_WELL, COUNT}),
        ([job("Running")], [pod(0)], {NOT_WELL, COUNT} | EVENTS),
        ([job("Running")], [pod(0), pod(1), pod(2)], {NOT_WELL, COUNT}),
        ([job(**QUEUED)], [], {NOT_WELL, COUNT, WORKLOADS}),
        ([job()], [unschedulable("x"), pod(1)], {NOT_WELL, COUNT, PLACED}),
        ([job()], [unschedulable("x"), unschedulable("x", 1)], {NOT_WELL, COUNT}),
        ([job()], [pod(0, "Pending"), pod(1)], {NOT_WELL, COUNT}),
        ([job("Succeeded", name="other"), job("Failed")], [], {NOT_WELL}),
        ([job("Running"), job("Failed", name="other")], [pod(0), pod(1)], {NOT_WELL, COUNT}),
    ],
)
def test_only_what_may_explain_something_is_asked_for(found, pods, asked):
    assert listed(*found, pods=pods)[1] == asked


def test_pods_of_a_data_job_need_not_be_placed_together():
    waiting = unschedulable("x")
    waiting["metadata"]["labels"] = {"batch.kubernetes.io/job-name": "my-job"}
    other = pod(1)
    other["metadata"]["labels"] = {"batch.kubernetes.io/job-name": "my-job"}
    assert listed(indexed_job(), pods=[waiting, other])[1] == {NOT_WELL, COUNT}


def test_the_newest_run_comes_first():
    runs = [job("Succeeded", name=name) for name in ("b", "c", "a")]
    for day, found in enumerate(runs, start=1):
        found["metadata"]["creationTimestamp"] = f"2030-01-0{day}T00:00:00Z"
    assert list(listed(*runs)[0]) == ["a", "c", "b"]


@pytest.mark.parametrize("reason", ["FailedCreatePod", "FailedCreate", "FailedCreateService"])
def test_pods_that_are_refused_are_explained_for_the_run_that_lacks_them_and_no_other(reason):
    refused = [event(reason, "exceeded quota: q, more than 2", of=name) for name in ("lacks", "whole", "failed")]
    runs = [job("Running", name="lacks"), job("Running", name="whole"), job("Failed", name="failed")]
    pods = [of("lacks", pod(0)), of("whole", pod(0)), of("whole", pod(1))]
    views, _ = listed(*runs, pods=pods, events=refused)
    assert views["lacks"].reason == "quota q is exceeded: more than 2"
    assert views["whole"].reason is None
    assert "quota" not in views["failed"].reason


def test_a_trainjob_whose_pods_cannot_be_made_is_not_told_that_nobody_looks_at_it():
    failed = event("TrainJobResourcesCreationFailed", "jobset refused")
    views, _ = listed(train_job(), events=[failed])
    assert views["my-run"].reason == "Kubeflow Trainer cannot make its pods: jobset refused"
    refused = event("FailedCreate", "exceeded quota: q, more than 2", of="my-run-node-0")
    views, _ = listed(train_job("Running"), pods=[node_pod(0)], events=[refused])
    assert views["my-run"].reason == "quota q is exceeded: more than 2"


def test_a_run_whose_pods_all_came_meanwhile_is_not_told_of_an_older_refusal():
    """One pod may be seen as waiting although it was not there when pods were counted, or the other way round."""
    refused = event("FailedCreatePod", "exceeded quota: q, more than 2")
    for pods in ([pod(0), pod(1)], [pod(0), pod(1), pod(2)]):
        other = of("other", pod(0))
        views, asked = listed(job("Running"), job("Running", name="other"), pods=[*pods, other], events=[refused])
        assert asked >= EVENTS
        assert views["my-run"].reason is None


def test_pods_of_what_is_no_run_are_passed_over():
    assert listed(job("Running", name="other"), pods=[unschedulable("x")])[1] == {NOT_WELL, COUNT} | EVENTS


def test_who_may_not_read_events_still_sees_the_runs():
    views, asked = listed(job("Running"), pods=[pod(0)], refuse={"events": ForbiddenError})
    assert views["my-run"].reason.startswith("has 1 of its 2 pods")
    assert len(asked & EVENTS) == 1


def test_the_ranks_that_hold_gpus_while_others_wait_are_counted():
    waits = [unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", 1)]
    deleted = pod(3, deleting=True)
    views, _ = listed(job(gpus=4), pods=[pod(2), pod(0), *waits, deleted])
    assert views["my-run"].reason.startswith("2 of 4 ranks hold their requested resources, for")
    assert [one["metadata"]["name"] for one in views["my-run"].pods] == [
        "my-run-master-0",
        "my-run-worker-0",
        "my-run-worker-1",
    ]
    assert views["my-run"].state == "running"


def test_a_run_that_waits_in_a_queue_is_told_by_kueues_object_of_either_version():
    queued = job(**QUEUED)
    queued["metadata"]["uid"] = "u1"
    reserved = {"type": "QuotaReserved", "status": "False", "message": "insufficient quota"}
    workloads = [
        {"metadata": {"labels": {JOB_UID_LABEL: "u2"}}, "spec": {}, "status": {}},
        {"metadata": {"labels": {JOB_UID_LABEL: "u1"}}, "spec": {}, "status": {"conditions": [reserved]}},
    ]
    for error in (NotFoundError, ForbiddenError):
        views, _ = listed(queued, workloads=workloads, refuse={"kueue.x-k8s.io/v1beta1": error})
        assert views["my-run"].reason == "waits in queue q: insufficient quota"
    views, _ = listed(queued, refuse={"workloads": ForbiddenError})
    assert "whether Kueue manages it is not visible" in views["my-run"].reason


def test_a_test_of_the_chart_is_no_run():
    hook = indexed_job(annotations={"helm.sh/hook": "test"}, name="hook")
    assert list(listed(hook, job("Succeeded"))[0]) == ["my-run"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_that_the_cluster_lacks_is_passed_over_and_one_that_may_not_be_read_is_said(kind, caplog):
    with caplog.at_level(logging.DEBUG, logger="k8s"):
        listed(refuse={kind: NotFoundError})
    assert f"the cluster has no {kind}" in caplog.text
    if kind == "trainjobs":
        listed(refuse={kind: ForbiddenError})
    else:
        with pytest.raises(ForbiddenError):
            listed(refuse={kind: ForbiddenError})
    fresh = Listing(refuse={"trainjobs": ForbiddenError})
    # Any tuple that says the same, not only this module's own.
    assert list(jobs_of_kind(fresh, (*TRAINJOBS[:1], "trainjobs"))) == []
