"""A TrainJob and its runtime: the one is judged with the other there, and nothing is left of what is refused."""

import json

import pytest

from cli.backends.cluster.lifecycle import install
from k8s.answers import ForbiddenError
from k8s.client import Cluster
from k8s.helm import Chart, Helm
from k8s.releases import Releases
from k8s.runs import RunLogs, Runs
from k8s.train_jobs import lacks_runtime, refuse_changed_runtime, runtime_first
from k8s.why import why
from tests.k8s.objects import event, node_pod, terminated, train_job
from tests.k8s.serving import EVENTS, INDEXED_JOBS, JOBS, PODS, RUNTIMES, TRAIN_JOBS, serve_run, suspending
from tsp.errors import ClusterError, ConfigError

META = {"name": "my-run", "labels": {"app.kubernetes.io/part-of": "tspctl"}}
RUNTIME = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime", "metadata": META, "spec": {}}
JOB = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": META, "spec": {"suspend": False}}
NOT_SEEN = (
    "admission webhook denied the request: spec.runtimeRef: Invalid value: TrainingRuntime not found: specified "
    "trainingRuntime must be created before the TrainJob is created"
)


class Trainer:
    """Kubeflow Trainer's webhook, which sees a runtime only when it was asked a few times."""

    def __init__(self, api, *, looks=0, refusal=None, mutate=lambda job: job):
        self.api, self.looks, self.refusal, self.mutate = api, looks, refusal, mutate
        self.created = []
        api.objects[RUNTIMES] = self.create
        api.objects[TRAIN_JOBS] = self.judge

    def create(self, method, query, body):
        path = f"{RUNTIMES}/{body['metadata']['name']}"
        if path in self.api.objects:
            return 409, {"message": "already exists"}
        self.created.append(body)
        self.api.objects[path] = self.answer
        return 201, body

    def answer(self, method, query, body):
        if method == "DELETE":
            del self.api.objects[f"{RUNTIMES}/my-run"]
        return 200, {}

    def judge(self, method, query, body):
        assert query["dryRun"] == "All"
        if f"{RUNTIMES}/my-run" not in self.api.objects or self.looks > 0:
            self.looks -= 1
            return 403, {"message": NOT_SEEN}
        return (403, {"message": self.refusal}) if self.refusal else (201, self.mutate(body))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("k8s.train_jobs._LOOK_EVERY_SEC", 0.01)


def test_the_runtime_is_there_when_the_trainjob_is_judged_and_stays(api, cluster):
    trainer = Trainer(api, looks=3)
    with runtime_first(cluster, [RUNTIME, JOB]) as judged:
        assert judged == JOB
        assert f"{RUNTIMES}/my-run" in api.objects
    assert f"{RUNTIMES}/my-run" in api.objects
    (created,) = trainer.created
    # Helm takes over what has its marks
    assert created["metadata"]["annotations"] == {
        "meta.helm.sh/release-name": "my-run",
        "meta.helm.sh/release-namespace": "video",
    }
    assert created["metadata"]["labels"] == META["labels"]


def test_whatever_is_refused_takes_the_runtime_along(api, cluster):
    Trainer(api, refusal="spec.trainer: no")
    said = r"TrainJob my-run: the API server would refuse it: spec\.trainer: no"
    with pytest.raises(ClusterError, match=said), runtime_first(cluster, [RUNTIME, JOB]):
        pytest.fail("nothing may be installed")
    assert f"{RUNTIMES}/my-run" not in api.objects
    Trainer(api)
    with pytest.raises(KeyboardInterrupt), runtime_first(cluster, [RUNTIME, JOB]):
        raise KeyboardInterrupt
    assert f"{RUNTIMES}/my-run" not in api.objects


def test_a_controller_that_never_sees_the_runtime_is_not_waited_for_for_ever(api, cluster, monkeypatch):
    monkeypatch.setattr("k8s.train_jobs._SEEN_WITHIN_SEC", 0.05)
    Trainer(api, looks=10**6)
    with pytest.raises(ClusterError, match="must be created before"), runtime_first(cluster, [RUNTIME, JOB]):
        pytest.fail("nothing may be installed")
    assert f"{RUNTIMES}/my-run" not in api.objects


def test_somebody_elses_runtime_of_the_name_is_refused_and_left_alone(api, cluster):
    Trainer(api)
    api.objects[f"{RUNTIMES}/my-run"] = {"metadata": META}
    said = "namespace video already has a TrainingRuntime my-run"
    with pytest.raises(ConfigError, match=said), runtime_first(cluster, [RUNTIME, JOB]):
        pytest.fail("nothing may be installed")
    assert f"{RUNTIMES}/my-run" in api.objects


def test_a_runtime_that_is_being_deleted_is_waited_for(api, cluster):
    """Of the run that is resumed by a new release: Kubeflow Trainer holds it until the TrainJob is gone."""
    trainer = Trainer(api)
    looks = []

    def goes(method, query, body):
        looks.append(method)
        if len(looks) == 3:
            del api.objects[f"{RUNTIMES}/my-run"]
        return 200, {"metadata": {**META, "deletionTimestamp": "2030-01-01T00:00:00Z"}}

    api.objects[f"{RUNTIMES}/my-run"] = goes
    with runtime_first(cluster, [RUNTIME, JOB]):
        pass
    assert (len(looks), len(trainer.created)) == (3, 1)


def test_other_jobs_need_no_runtime(api, cluster):
    with runtime_first(cluster, [{"kind": "PyTorchJob", "metadata": META}]) as judged:
        assert judged is None
    assert api.requests == []


QUEUED = {**JOB, "metadata": {**META, "labels": {**META["labels"], "kueue.x-k8s.io/queue-name": "team"}}}


@pytest.mark.parametrize("managed", [True, False])
def test_a_trainjob_in_a_queue_that_nobody_manages_is_not_installed(api, cluster, fake_helm, managed):
    Trainer(api, mutate=lambda job: {**job, "spec": {**job["spec"], "suspend": managed}})
    fake_helm.answer(install={"out": "{}"})
    helm = Helm(cluster.where, "video")
    manifest = "---\n".join(json.dumps(item) + "\n" for item in ({"kind": "List", "items": [RUNTIME]}, QUEUED))
    arguments = (Releases(cluster), helm, "my-run", Chart(reference="c"), {})
    if managed:
        install(*arguments, manifest=manifest)
        assert [call["arguments"][0] for call in fake_helm.calls] == ["install"]
        return
    with pytest.raises(ClusterError, match=r"names the queue team, .* integration trainer.kubeflow.org/trainjob"):
        install(*arguments, manifest=manifest)
    assert fake_helm.calls == []
    assert f"{RUNTIMES}/my-run" not in api.objects


def test_a_runtime_that_somebody_changed_is_not_gone_on_with(api, cluster):
    defaulted = {"template": {"spec": {"replicas": 1}}, "given": 1}
    api.objects[RUNTIMES] = lambda method, query, body: (201, {**body, "spec": defaulted})
    api.objects[f"{RUNTIMES}/my-run"] = {"metadata": META, "spec": defaulted}
    own = {**RUNTIME, "spec": {"given": 1}}
    refuse_changed_runtime(cluster, [own])
    api.objects[f"{RUNTIMES}/my-run"] = {"metadata": META, "spec": {**defaulted, "podGroupPolicy": {}}}
    with pytest.raises(ClusterError) as refused:
        refuse_changed_runtime(cluster, [own])
    assert "TrainingRuntime my-run has changed since the run was submitted" in str(refused.value)
    assert "'tspctl delete my-run --keep-store'" in str(refused.value)
    assert "'tspctl resume my-run'" in str(refused.value)


def test_a_trainjob_is_suspended_and_resumed_by_its_own_field(api, backend, config):
    found = train_job("Suspended=False", ready=1)
    serve_run(api, found, [node_pod(0)])
    api.objects[f"{RUNTIMES}/my-run"] = RUNTIME
    patches = suspending(api, found)
    backend.suspend("my-run", grace_sec=1)
    backend.resume("my-run", config)
    assert [patch["spec"] for patch in patches] == [{"suspend": True}, {"suspend": False}]


def test_a_role_of_before_trainjobs_still_sees_its_runs(api, cluster):
    def forbidden(*_):
        return 403, {"message": "no"}

    api.objects |= {f"{TRAIN_JOBS}/my-run": forbidden, TRAIN_JOBS: forbidden, JOBS: [], INDEXED_JOBS: []}
    runs = Runs(cluster)
    assert (runs.find("my-run"), list(runs.views())) == (None, [])
    api.objects |= {JOBS: forbidden, "/apis/kubeflow.org/v1": {"resources": [{"name": "pytorchjobs"}]}}
    with pytest.raises(ForbiddenError):
        list(Runs(Cluster(cluster.where)).views())


def test_the_logs_of_a_trainjob_are_those_of_its_pods(api, cluster):
    found = train_job("Complete")
    first, second = node_pod(0, "Succeeded"), node_pod(1, "Succeeded")
    serve_run(api, found, [second, first])
    logs = RunLogs(Runs(cluster), "my-run")
    assert [item["metadata"]["name"] for item in logs.pods()] == ["my-run-node-0-0-abcde", "my-run-node-0-1-abcde"]
    assert logs.ended()


@pytest.mark.parametrize(
    ("found", "pods", "events", "reason"),
    [
        (train_job(), [], [], "no controller has picked it up yet: is Kubeflow Trainer running?"),
        (
            train_job("Suspended=False"),
            [],
            [],
            "has 0 of its 2 pods, and Kubeflow Trainer creates no others: is it running, and may it create pods?",
        ),
        (train_job("Suspended=False"), [node_pod(0), node_pod(1)], [], None),
        (
            train_job(),
            [],
            [event("TrainJobResourcesCreationFailed", "TrainingRuntime specified in TrainJob is not found")],
            "Kubeflow Trainer cannot make its pods: TrainingRuntime specified in TrainJob is not found",
        ),
        (
            train_job("Suspended=False"),
            [],
            [event("FailedCreate", "Error creating: exceeded quota: gpus, used: 8", of="my-run-node-0")],
            "quota gpus is exceeded: used: 8",
        ),
        (
            train_job("Failed", reason="FailJobSetFailurePolicyAction", message="jobset failed due to one or more"),
            [node_pod(1, "Failed", state=terminated(3, message="2030-01-01T00:00:00Z rank 1 ERROR clip 7 is broken"))],
            [],
            "rank 1 ended with exit code 3 (bad data): clip 7 is broken",
        ),
        (train_job("Failed", reason="DeadlineExceeded"), [], [], "it ran longer than its deadline allows"),
        (
            train_job("Suspended=False"),
            [node_pod(0, "Pending", restarts=1, node=None)],
            [],
            None,
        ),
    ],
)  # fmt: skip
def test_a_trainjob_says_why_as_a_pytorchjob_does(found, pods, events, reason):
    said = why(found, pods, events)
    assert said is None if reason is None else (said or "").startswith(reason)


def test_one_run_is_looked_up_with_the_events_of_the_job_that_jobset_makes(api, cluster):
    found = train_job("Suspended=False")
    serve_run(api, found, [])
    api.objects[EVENTS] = lambda method, query, body: (
        200,
        {
            "metadata": {},
            "items": [event("FailedCreate", "Error creating: exceeded quota: gpus, used: 8", of="my-run-node-0")]
            if query["fieldSelector"] == "involvedObject.name=my-run-node-0"
            else [],
        },
    )
    view = Runs(cluster).view("my-run")
    assert (view.state, view.reason) == ("pending", "quota gpus is exceeded: used: 8")
    assert PODS in {path for _, path, _, _ in api.requests}


@pytest.mark.parametrize("objects", [[], [RUNTIME], [JOB], [{**RUNTIME, "kind": "ConfigMap"}, JOB]])
def test_without_both_a_trainjob_and_its_runtime_there_is_nothing_to_create_first(api, cluster, objects):
    with runtime_first(cluster, objects) as judged:
        assert judged is None
    assert api.requests == []


@pytest.mark.parametrize(
    ("kind", "message", "lacks"),
    [
        ("TrainJob", NOT_SEEN, True),
        ("TrainJob", "no", False),
        ("TrainingRuntime", NOT_SEEN, False),
        ("Job", NOT_SEEN, False),
    ],
)
def test_only_a_trainjob_can_lack_its_runtime(kind, message, lacks):
    assert lacks_runtime({"kind": kind}, ClusterError(message)) is lacks
