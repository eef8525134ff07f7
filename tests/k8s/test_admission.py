"""What a dry run finds out: schema, webhooks and policies, quotas, Kueue; of jobs and of their pods."""

import copy

import pytest

from k8s import admission
from k8s.admission import is_ignored_by_kueue
from tests.k8s.findings import forbidden
from tests.k8s.objects import indexed_job, job, train_job
from tests.k8s.serving import INDEXED_JOBS, JOBS, PODS, RUNTIMES, TRAIN_JOBS
from tsp.run.status import Finding

QUEUE = "kueue.x-k8s.io/queue-name"
QUEUED = {"labels": {QUEUE: "team"}}


def test_the_api_server_judges_every_object_without_creating_it(api, cluster):
    job = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "r"}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "r"}}
    api.objects[cluster.namespaced("v1", "serviceaccounts")] = {}
    api.objects[cluster.namespaced("kubeflow.org/v1", "pytorchjobs")] = lambda *_: (422, {"message": "no Master"})
    (finding,) = admission.check_objects(cluster, [account, job])
    assert finding == Finding("PyTorchJob r", "error", "the API server would refuse it: no Master (HTTP 422)")
    assert all(query == {"dryRun": "All", "fieldValidation": "Strict"} for _, _, query, _ in api.requests)


def test_an_object_of_somebody_else_that_has_the_name_is_named_with_what_to_do(api, cluster):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "r"}}
    message = 'serviceaccounts "r" already exists'
    api.objects[cluster.namespaced("v1", "serviceaccounts")] = lambda *_: (409, {"message": message})
    (finding,) = admission.check_objects(cluster, [account])
    assert (finding.what, finding.level) == ("ServiceAccount r", "error")
    assert "choose another --name, or remove it with 'kubectl delete serviceaccount r'" in finding.message


def test_nobody_is_told_to_delete_an_account_that_others_use(api, cluster):
    labels = {"app.kubernetes.io/instance": "r"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "labels": labels}}
    api.objects[cluster.namespaced("v1", "serviceaccounts")] = lambda *_: (409, {"message": "it already exists"})
    (finding,) = admission.check_objects(cluster, [account])
    assert finding.message == "it exists already: to use it, set serviceAccount.create to false (chart value)"


def test_a_queue_that_nobody_manages_is_seen_by_the_job_that_is_not_held_back():
    assert is_ignored_by_kueue(job(**QUEUED))
    assert not is_ignored_by_kueue(job(suspend=True, **QUEUED))
    assert not is_ignored_by_kueue(job())
    assert not is_ignored_by_kueue(indexed_job())


def of_kind(kind, found, version):
    return {"apiVersion": version, "kind": kind, **found}


TEMPLATE = {
    "metadata": {"labels": {"app.kubernetes.io/part-of": "tspctl", "app.kubernetes.io/instance": "my-run"}},
    "spec": {"serviceAccountName": "my-run", "containers": [{"name": "main"}]},
}
RUNTIME = {
    "metadata": {"name": "my-run", "labels": {}},
    "spec": {"template": {"spec": {"replicatedJobs": [{"template": {"spec": {"template": TEMPLATE}}}]}}},
}
KINDS = {
    JOBS: of_kind("PyTorchJob", job(annotations={"tspctl/store": "{}"}), "kubeflow.org/v1"),
    TRAIN_JOBS: of_kind("TrainJob", train_job(annotations={"tspctl/store": "{}"}), "trainer.kubeflow.org/v1alpha1"),
    INDEXED_JOBS: of_kind("Job", indexed_job(), "batch/v1"),
    RUNTIMES: of_kind("TrainingRuntime", RUNTIME, "trainer.kubeflow.org/v1alpha1"),
}
for replica in KINDS[JOBS]["spec"]["pytorchReplicaSpecs"].values():
    replica["template"] = TEMPLATE
KINDS[INDEXED_JOBS]["spec"]["template"] = TEMPLATE
WITH_SUSPEND = (JOBS, TRAIN_JOBS, INDEXED_JOBS)
WITH_PODS = (JOBS, INDEXED_JOBS, RUNTIMES)


def changing(change):
    """A webhook that changes what is sent."""

    def answer(method, query, body):
        found = copy.deepcopy(body)
        change(found)
        return 201, found

    return answer


def suspend(found, queue=None):
    spec = found["spec"]
    spec.get("runPolicy", spec)["suspend"] = True
    found["metadata"]["labels"] |= {QUEUE: queue} if queue else {}


@pytest.mark.parametrize("path", WITH_SUSPEND)
def test_a_job_that_kueue_holds_without_a_queue_is_refused(api, cluster, path):
    api.objects[path] = changing(suspend)
    (finding,) = admission.check_objects(cluster, [KINDS[path]])
    assert (finding.level, "give --queue" in finding.message) == ("error", True)
    asked_for = copy.deepcopy(KINDS[path])
    suspend(asked_for)
    assert list(admission.check_objects(cluster, [asked_for])) == []
    # Kueue's default for a namespace with a LocalQueue called default.
    api.objects[path] = changing(lambda found: suspend(found, queue="default"))
    assert list(admission.check_objects(cluster, [KINDS[path]])) == []


LABELS = ("app.kubernetes.io/part-of", "app.kubernetes.io/instance", "app.kubernetes.io/component")


@pytest.mark.parametrize(
    ("path", "part", "key"),
    [(path, "labels", key) for path in WITH_SUSPEND for key in LABELS]
    + [(path, "annotations", "tspctl/store") for path in (JOBS, TRAIN_JOBS)],
)
@pytest.mark.parametrize("value", ["video-team", None])
def test_a_webhook_that_changes_what_runs_are_found_by_is_named(api, cluster, path, part, key, value):
    def change(found):
        found["metadata"][part][key] = value
        found["metadata"]["labels"]["team"] = "added"

    api.objects[path] = changing(change)
    (finding,) = admission.check_objects(cluster, [KINDS[path]])
    assert finding.level == "error"
    assert f"sets its {part[:-1]} {key} to {value!r} instead of" in finding.message


@pytest.mark.parametrize("path", WITH_PODS)
def test_pods_are_judged_as_their_controller_makes_them(api, cluster, path):
    sent = []
    api.objects[PODS] = lambda _method, _query, body: (201, sent.append(body) or body)
    assert list(admission.check_pods(cluster, [KINDS[path]])) == []
    assert len(sent) == (2 if path == JOBS else 1)
    assert all(query["dryRun"] == "All" for method, _, query, _ in api.requests if method == "POST")
    # The release's own account is not there before the release.
    assert {tuple(pod["spec"]) for pod in sent} == {("restartPolicy", "containers")}
    assert {pod["metadata"]["labels"]["app.kubernetes.io/instance"] for pod in sent} == {"my-run"}


QUOTA = "exceeded quota: gpus, requested: requests.nvidia.com/gpu={}, used: requests.nvidia.com/gpu=4, limited: "
POD_REFUSALS = [
    (403, 'pods "r-0" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes', "error"),
    (403, 'pods "r-0" is forbidden: pod rejected: RuntimeClass "nope" not found', "error"),
    (403, 'pods "r-0" is forbidden: minimum cpu usage per Container is 30m, but request is 20m', "error"),
    (403, 'pods "r-0" is forbidden: failed quota: gpus: must specify limits.memory for: pytorch', "error"),
    (403, f'pods "r-0" is forbidden: {QUOTA.format(1)}requests.nvidia.com/gpu=4', "warning"),
    (403, f'pods "r-0" is forbidden: {QUOTA.format(8)}requests.nvidia.com/gpu=4', "error"),
    (422, "pods \"r-0\" is forbidden: ValidatingAdmissionPolicy 'label' denied request: no team", "error"),
    (400, 'admission webhook "policy.example.com" denied the request: no team', "error"),
    # Nobody can know beforehand.
    (400, 'admission webhook "policy.example.com" does not support dry run', None),
    (403, 'pods is forbidden: User "jane" cannot create resource "pods" in API group ""', None),
]


@pytest.mark.parametrize(("status", "message", "level"), POD_REFUSALS)
def test_pods_that_would_be_refused_are_found_before_their_run_waits_for_them(api, cluster, status, message, level):
    api.objects[PODS] = lambda *_: (status, {"message": message})
    found = [finding.level for finding in admission.check_pods(cluster, [KINDS[INDEXED_JOBS]])]
    assert found == ([level] if level else [])


def test_pods_whose_labels_are_changed_would_not_be_found(api, cluster):
    api.objects[PODS] = changing(lambda found: found["metadata"]["labels"].update({LABELS[0]: "video"}))
    (finding,) = admission.check_pods(cluster, [KINDS[INDEXED_JOBS]])
    assert "sets its label app.kubernetes.io/part-of to 'video'" in finding.message


@pytest.mark.parametrize("path", WITH_SUSPEND)
def test_a_webhook_that_allows_no_dry_run_does_not_stop_a_submit(api, cluster, path):
    message = 'admission webhook "policy.example.com" does not support dry run'
    api.objects[path] = lambda *_: (400, {"message": message})
    assert list(admission.check_objects(cluster, [KINDS[path]])) == []


def test_what_the_server_warns_of_is_passed_on_once(api, cluster, caplog):
    api.objects |= {JOBS: lambda _method, _query, body: (201, body), PODS: []}
    api.warnings = ['299 - "say \\"cost centre\\"", 299 - "old version"', '299 kube "old version"', "110 - stale"]
    for _ in range(2):
        assert list(admission.check_objects(cluster, [KINDS[JOBS]])) == []
    list(cluster.items(PODS))
    texts = [record.getMessage() for record in caplog.records]
    assert texts == ['the API server warns: say "cost centre"', "the API server warns: old version"]


def test_a_pod_without_permission_is_not_asked_about_again(api, cluster):
    api.objects[PODS] = forbidden
    assert list(admission.check_pods(cluster, [KINDS[JOBS]])) == []
    assert [path for method, path, *_ in api.requests if method == "POST"] == [PODS]
