"""The controllers that make a run's pods are looked at before anything is created."""

import pytest

from k8s.controllers import check_gang, check_job_api, check_webhooks
from tests.k8s.findings import DEPLOYMENTS, forbidden, levels, operator

KINDS = {"resources": [{"name": "pytorchjobs", "kind": "PyTorchJob"}]}
TRAINER_KINDS = {"resources": [{"name": "trainjobs"}, {"name": "trainingruntimes"}]}


def test_the_operator_must_be_ready_as_far_as_can_be_seen(api, cluster):
    api.objects["/apis/kubeflow.org/v1"] = KINDS
    api.objects[DEPLOYMENTS] = forbidden
    assert levels(check_job_api(cluster, "pytorchjob")) == [("training operator", "ok")]
    api.objects[DEPLOYMENTS] = [operator()]
    assert next(check_job_api(cluster, "pytorchjob")).message == "kubeflow/training-operator runs"
    api.objects[DEPLOYMENTS] = [operator(ready=0)]
    assert levels(check_job_api(cluster, "pytorchjob")) == [("training operator", "error")]


def test_kubeflow_trainer_must_be_ready_and_have_jobset(api, cluster):
    api.objects["/apis/trainer.kubeflow.org/v1alpha1"] = TRAINER_KINDS
    api.objects[DEPLOYMENTS] = []
    (finding,) = check_job_api(cluster, "trainjob")
    assert (finding.level, "JobSet, which the cluster lacks" in finding.message) == ("error", True)
    api.objects["/apis/jobset.x-k8s.io/v1alpha2"] = {"resources": []}
    assert levels(check_job_api(cluster, "trainjob")) == [("Kubeflow Trainer", "ok")]
    api.objects[DEPLOYMENTS] = [operator(ready=0)]
    assert levels(check_job_api(cluster, None)) == [("Kubeflow Trainer", "error")]


OLD = {"/apis/kubeflow.org/v2alpha1": {"resources": [{"name": "trainjobs"}]}}
NEWER = {
    "/apis/trainer.kubeflow.org": {"versions": [{"groupVersion": "trainer.kubeflow.org/v2"}]},
    "/apis/trainer.kubeflow.org/v2": {"resources": [{"name": "trainjobs"}]},
}
OLDER = {
    "/apis/kubeflow.org": {"versions": [{"groupVersion": "kubeflow.org/v1beta2"}]},
    "/apis/kubeflow.org/v1beta2": {"resources": [{"name": "pytorchjobs"}]},
}
BOTH = {"/apis/kubeflow.org/v1": KINDS, "/apis/trainer.kubeflow.org/v1alpha1": TRAINER_KINDS}


@pytest.mark.parametrize(
    ("served", "api_asked", "said"),
    [
        ({}, None, "serves neither PyTorchJob nor TrainJob: have an administrator install"),
        ({}, "pytorchjob", "serves neither PyTorchJob nor TrainJob: have an administrator install"),
        (OLD, None, "serves TrainJob kubeflow.org/v2alpha1, which is older than Kubeflow Trainer 2.0"),
        ({"/apis/kubeflow.org/v1": KINDS, **OLD}, "trainjob", "kubeflow.org/v2alpha1, which is older"),
        (NEWER, None, "TrainJob as trainer.kubeflow.org/v2, not as trainer.kubeflow.org/v1alpha1: update tspctl"),
        (NEWER, "trainjob", "serves TrainJob as trainer.kubeflow.org/v2, not as"),
        ({"/apis/kubeflow.org/v1": KINDS, **NEWER}, "trainjob", "serves TrainJob as trainer.kubeflow.org/v2, not"),
        (OLDER, None, "PyTorchJob as kubeflow.org/v1beta2, not as kubeflow.org/v1: have an administrator update"),
        (OLDER, "pytorchjob", "serves PyTorchJob as kubeflow.org/v1beta2"),
        ({"/apis/kubeflow.org/v1": KINDS}, "trainjob", "does not serve TrainJob, but PyTorchJob: leave out --job-api"),
        (
            {"/apis/trainer.kubeflow.org/v1alpha1": TRAINER_KINDS},
            "pytorchjob",
            "does not serve PyTorchJob, but TrainJob: leave out --job-api",
        ),
    ],
)
def test_a_cluster_without_the_kind_of_job_is_refused_with_what_would_help(api, cluster, served, api_asked, said):
    api.objects |= served
    (finding,) = check_job_api(cluster, api_asked)
    assert (finding.what, finding.level) == ("training", "error")
    assert said in finding.message


def test_doctor_looks_at_each_controller_that_the_cluster_has(api, cluster):
    api.objects |= {**BOTH, DEPLOYMENTS: [operator()], "/apis/jobset.x-k8s.io/v1alpha2": {}}
    assert levels(check_job_api(cluster, None)) == [("training operator", "ok"), ("Kubeflow Trainer", "ok")]


@pytest.mark.parametrize(
    ("gang", "groups", "arguments", "api_asked", "said"),
    [
        ("", [], [], "pytorchjob", None),
        ("kueue", [], [], "pytorchjob", None),
        ("volcano", [], [], "trainjob", "serves no scheduling.volcano.sh: have an administrator install volcano"),
        ("coscheduling", ["scheduling.volcano.sh"], [], "trainjob", "serves no scheduling.x-k8s.io"),
        ("volcano", ["scheduling.volcano.sh"], [], "trainjob", None),
        (
            "volcano",
            ["scheduling.volcano.sh"],
            [],
            "pytorchjob",
            "kubeflow/training-operator runs without gang scheduling",
        ),
        ("volcano", ["scheduling.volcano.sh"], ["--gang-scheduler-name=volcano"], "pytorchjob", None),
    ],
)
def test_a_gang_scheduler_that_is_not_there_is_refused(api, cluster, gang, groups, arguments, api_asked, said):
    api.objects["/apis"] = {"groups": [{"name": name} for name in groups]}
    api.objects[DEPLOYMENTS] = [operator(arguments=arguments)]
    found = [finding.message for finding in check_gang(cluster, gang, api_asked)]
    assert len(found) == (said is not None)
    assert all(said in message for message in found)


@pytest.mark.parametrize(
    ("silent", "controller"), [("pytorchjob", "training operator"), ("trainjob", "Kubeflow Trainer")]
)
def test_controllers_that_do_not_answer_are_found_by_whoever_may_submit(api, cluster, monkeypatch, silent, controller):
    monkeypatch.setattr("k8s.client._RETRY_AFTER_SEC", ())
    kinds = {
        "pytorchjob": ("kubeflow.org/v1", "pytorchjobs"),
        "trainjob": ("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    }
    for kind, resource in kinds.items():
        answer = (500, 'failed calling webhook "a.b": refused') if kind == silent else (403, "denied the request")
        api.objects[cluster.namespaced(*resource)] = lambda *_, answer=answer: (answer[0], {"message": answer[1]})
    (finding,) = check_webhooks(cluster, kinds)
    assert (finding.what, finding.level) == (controller, "error")
    assert finding.message.startswith("the webhook a.b does not answer")
    assert {query["dryRun"] for method, _, query, _ in api.requests if method == "POST"} == {"All"}
