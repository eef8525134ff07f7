"""What is read of runs and done to them, request by request."""

import copy

import pytest

from k8s import runs as module
from k8s.names import PYTORCHJOBS, TRAINJOBS
from k8s.runs import RunLogs, Runs, wait_for
from k8s.why_gone import SELECTOR
from tests.k8s.objects import event, indexed_job, job, node_pod, pod, terminated, train_job
from tests.k8s.serving import EVENTS, INDEXED_JOBS, JOBS, PODS, RUNTIMES, TRAIN_JOBS, gpu_node, path_of, serve_run
from tsp.errors import NoSuchRunError

CONFIGMAPS = "/api/v1/namespaces/video/configmaps"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/video/workloads"
QUEUED = {"labels": {"kueue.x-k8s.io/queue-name": "team"}}


@pytest.fixture
def runs(cluster, monkeypatch):
    monkeypatch.setattr(module, "_POLL_SEC", 0.001)
    return Runs(cluster)


def asked_for(api, path):
    """What events or pods were asked for, in order."""
    return [query.get("fieldSelector", "") for _, at, query, _ in api.requests if at == path]


@pytest.mark.parametrize("found", [job("Running"), train_job(ready=1), indexed_job(name="my-run")])
def test_a_run_is_found_whatever_kind_of_job_it_is(api, runs, found):
    serve_run(api, found)
    assert runs.find("my-run") == runs.get("my-run") == found


@pytest.mark.parametrize("found", [job("Running"), train_job(ready=1), indexed_job(name="my-run")])
def test_a_run_is_found_where_a_tool_has_overwritten_the_label_with_its_name(api, runs, found):
    """Argo CD writes the name of its application there. ``list`` shows the run by its name, too."""
    found = copy.deepcopy(found)
    found["metadata"]["labels"]["app.kubernetes.io/instance"] = "my-application"
    serve_run(api, found)
    api.objects[path_of(found).rpartition("/")[0]] = [found]
    assert runs.find("my-run") == found
    assert list(runs.names()) == ["my-run"]


def test_what_is_no_run_is_not_found(api, runs):
    serve_run(api, job(labels={"app.kubernetes.io/part-of": "another"}))
    assert runs.find("my-run") is None
    serve_run(api, indexed_job(name="my-run", annotations={"helm.sh/hook": "test"}))
    assert runs.find("my-run") is None
    with pytest.raises(NoSuchRunError, match="no run 'my-run' in namespace video: see 'tspctl list'"):
        runs.get("my-run")
    assert runs.view("my-run") is None


def test_pods_of_a_run_are_its_own_and_the_lowest_rank_comes_first(api, runs):
    other = pod(0)
    other["metadata"]["uid"] = "another"
    other["metadata"]["labels"]["training.kubeflow.org/job-name"] = "my-run-2"
    api.objects[PODS] = [pod(2), other, pod(0), pod(1)]
    assert [item["metadata"]["uid"] for item in runs.pods("my-run")] == ["uid-0", "uid-1", "uid-2"]


@pytest.mark.parametrize(
    ("found", "events_asked"),
    [
        (job("Succeeded"), False),
        (job("Running", suspend=True, annotations={"tspctl/stopped": "cancelled"}), False),
        (job("Suspended", suspend=True, annotations={"tspctl/stopped": "suspended"}), False),
        (job("Running"), True),
        (job("Failed"), True),
        (job("Created"), True),
    ],
)
def test_events_are_asked_for_where_something_may_have_to_be_explained(api, runs, found, events_asked):
    serve_run(api, found, [pod(0)])
    assert runs.view("my-run").job == found
    assert bool(asked_for(api, EVENTS)) is events_asked


def test_events_are_asked_for_the_job_the_first_pods_that_wait_and_the_claims_of_those_without_a_node(api, runs):
    pods = [pod(rank, "Pending", node=None if rank else "node-a") for rank in range(5)]
    serve_run(api, job("Created", gpus=5), pods)
    for item in pods:
        claim = f"claim-{item['metadata']['uid']}"
        item["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": claim}}]
    api.objects[EVENTS] = [event("FailedCreatePod", "why")]
    runs.view("my-run")
    named = [text.removeprefix("involvedObject.name=") for text in asked_for(api, EVENTS)]
    waiting = ["my-run-master-0", "my-run-worker-0", "my-run-worker-1"]
    assert named == ["my-run", *waiting, "claim-uid-1", "claim-uid-2", SELECTOR]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"nvidia.com/gpu.product": "NVIDIA-A10", "nvidia.com/gpu.memory": "23028"}, "NVIDIA-A10, 23028 MiB"),
        ({"nvidia.com/gpu.product": "NVIDIA-A10"}, "NVIDIA-A10"),
        ({"nvidia.com/gpu.memory": "80Gi"}, "80Gi"),
        ({}, None),
    ],
)
def test_the_gpu_of_a_node_is_what_its_labels_say_and_is_asked_for_once(api, runs, labels, told):
    node = gpu_node("a", None)
    node["metadata"]["labels"] = labels
    api.objects["/api/v1/nodes/a"] = node
    assert [runs.gpu_of("a"), runs.gpu_of("a"), runs.gpu_of(None)] == [told, told, None]
    assert len(api.requests) == 1
    assert runs.gpu_of("gone") is None


def with_configmap(item, name="my-run-config"):
    template = {"spec": {"volumes": [{"name": "config", "configMap": {"name": name}}]}}
    replicas = item["spec"].get("pytorchReplicaSpecs")
    (replicas["Master"] if replicas else item["spec"])["template"] = template
    return item


def test_a_job_whose_configmap_is_gone_is_known(api, runs):
    found = with_configmap(job("Created"))
    assert runs.lacks_config(found)
    api.objects[f"{CONFIGMAPS}/my-run-config"] = {}
    assert not runs.lacks_config(found)
    assert not runs.lacks_config(job("Created"))


def test_a_trainjob_whose_runtime_or_its_configmap_is_gone_is_known(api, runs):
    found = train_job()
    assert runs.lacks_config(found)
    template = {"spec": {"template": {"spec": {"volumes": [{"configMap": {"name": "my-run-config"}}]}}}}
    replicated = [{"template": template}]
    api.objects[f"{RUNTIMES}/my-run"] = {"spec": {"template": {"spec": {"replicatedJobs": replicated}}}}
    assert runs.lacks_config(found)
    api.objects[f"{CONFIGMAPS}/my-run-config"] = {}
    assert not runs.lacks_config(found)


@pytest.mark.parametrize(
    ("found", "path", "spec"),
    [
        (job("Running"), JOBS, {"runPolicy": {"suspend": True}}),
        (train_job(ready=1), TRAIN_JOBS, {"suspend": True}),
        (indexed_job(name="my-run"), INDEXED_JOBS, {"suspend": True}),
    ],
)
def test_each_kind_of_job_is_suspended_by_its_own_field(api, runs, found, path, spec):
    bodies = []

    def answer(method, query, body):
        if method == "PATCH":
            bodies.append(body)
        return 200, found

    api.objects[f"{path}/my-run"] = answer
    runs.set_suspended("my-run", True, stopped="cancelled")
    assert bodies == [{"metadata": {"annotations": {"tspctl/stopped": "cancelled"}}, "spec": spec}]


@pytest.mark.parametrize("suspended", [True, False])
def test_a_job_in_a_queue_is_held_back_by_kueues_object_alone(api, runs, suspended):
    found, changed = job("Running", **QUEUED), {}
    workload = {"apiVersion": "kueue.x-k8s.io/v1beta2", "metadata": {"name": "w", "uid": "1"}}

    def changing(path, item):
        def answer(method, query, body):
            if method == "PATCH":
                changed[path] = body
            return 200, item

        api.objects[path] = answer

    api.objects[WORKLOADS] = [workload]
    changing(f"{JOBS}/my-run", found)
    changing(f"{WORKLOADS}/w", workload)
    runs.set_suspended("my-run", suspended, stopped=None)
    assert changed == {
        f"{WORKLOADS}/w": {"spec": {"active": not suspended}},
        f"{JOBS}/my-run": {"metadata": {"annotations": {"tspctl/stopped": None}}},
    }


GOING = pod(0, "Failed", state=terminated(1), deleting=True)


@pytest.mark.parametrize(
    ("pods", "quiet"),
    [([], True), ([pod(0, "Succeeded"), pod(1, "Failed")], True), ([pod(0, "Running")], False), ([GOING], False)],
)
def test_a_run_without_pods_at_work_is_quiet(api, runs, pods, quiet):
    api.objects[PODS] = pods
    assert runs.wait_without_pods("my-run", timeout_sec=0) is quiet


@pytest.mark.parametrize("left", [f"{JOBS}/my-run", PODS, f"{RUNTIMES}/my-run", None])
def test_a_run_is_gone_when_job_pods_and_runtime_are(api, runs, left):
    api.objects[PODS] = [pod(0)] if left == PODS else []
    if left not in (PODS, None):
        api.objects[left] = job("Running")
    assert runs.wait_gone("my-run", timeout_sec=0) is (left is None)


def test_pods_that_have_not_ended_are_deleted_without_grace(api, runs):
    deleted = []
    pods = [pod(0, "Succeeded"), pod(1, "Running"), pod(2, "Pending"), pod(3, "Failed")]
    api.objects[PODS] = pods
    for item in pods:
        name = item["metadata"]["name"]

        def answer(method, query, body, name=name):
            deleted.append((method, name, query))
            return 200, {}

        api.objects[f"{PODS}/{name}"] = answer
    runs.kill_pods("my-run")
    assert deleted == [("DELETE", f"my-run-worker-{n}", {"gracePeriodSeconds": "0"}) for n in (0, 1)]


def test_a_wait_ends_when_its_condition_holds_or_its_time_is_up(monkeypatch):
    now, asked = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda sec: now.__setitem__(0, now[0] + sec))
    assert wait_for(lambda: asked.append(now[0]) or now[0] >= 3, timeout_sec=5)
    assert asked == [0.0, 1.0, 2.0, 3.0]
    assert not wait_for(lambda: now[0] >= 100, timeout_sec=5)
    assert now[0] == 8.0
    assert not wait_for(lambda: False, timeout_sec=0)
    assert now[0] == 8.0


@pytest.mark.parametrize(
    ("found", "ended"),
    [
        (None, True),
        (job("Succeeded"), True),
        (job("Failed"), True),
        (job("Running", suspend=True, annotations={"tspctl/stopped": "cancelled"}), True),
        (job("Suspended", suspend=True, annotations={"tspctl/stopped": "suspended"}), True),
        (job("Running"), False),
        (job("Created"), False),
        (job("Restarting"), False),
    ],
)
def test_logs_end_with_the_run_or_when_it_is_suspended(api, runs, found, ended):
    if found is not None:
        serve_run(api, found)
    assert RunLogs(runs, "my-run").ended() is ended


def test_the_names_of_all_kinds_are_listed_and_tests_are_left_out(api, runs):
    api.objects[JOBS] = [job(name="a"), job(name="b")]
    api.objects[TRAIN_JOBS] = [train_job(name="c")]
    api.objects[INDEXED_JOBS] = [indexed_job(name="d"), indexed_job(name="t", annotations={"helm.sh/hook": "test"})]
    assert list(runs.names()) == ["a", "b", "c", "d"]
    assert (PYTORCHJOBS[1], TRAINJOBS[1]) == ("pytorchjobs", "trainjobs")


def test_pods_of_a_trainjob_are_found_by_its_name(api, runs):
    api.objects[PODS] = [node_pod(1), node_pod(0)]
    assert [item["metadata"]["name"] for item in runs.pods("my-run")] == [
        "my-run-node-0-0-abcde",
        "my-run-node-0-1-abcde",
    ]
