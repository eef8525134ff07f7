"""The cluster as a place to run: a real chart and a real Helm against a small API server."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import yaml

from cli.backend import LogQuery, PlaceOptions
from cli.loglines import FolderLogs, read_lines
from cli.on_cluster import ClusterBackend
from cli.settings import Settings
from tests.k8s.fake_api import FakeLog
from tests.k8s.objects import job, pod, terminated, unschedulable
from tsp.errors import ClusterError, ConfigError, DataError, NoSuchRunError
from tsp.run.config import StoreConfig, from_json
from tsp.run.jobs import ExtractJob
from tsp.run.recipes import load_dataset, resolve
from tsp.run.request import config_from_pod
from tsp.run.run import Run
from tsp.run.store import open_store

JOBS = "/apis/kubeflow.org/v1/namespaces/video/pytorchjobs"
PODS = "/api/v1/namespaces/video/pods"
PLACE = PlaceOptions()


@pytest.fixture
def config(tmp_path):
    store = {"uri": str(tmp_path / "store")}
    overrides = {"gpus": 4}
    return resolve(load_dataset("thumos14"), "tsp", name="my-run", store=store, root="/data", overrides=overrides)


@pytest.fixture
def backend(cluster, monkeypatch):
    monkeypatch.setattr("k8s.runs._POLL_SEC", 0.01)
    return ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig))


@pytest.fixture
def well(api):
    """A cluster on which everything is allowed and everything is there."""
    api.objects["/version"] = {"gitVersion": "v1.32.0"}
    api.objects["/api/v1/namespaces/video"] = {"metadata": {}}
    api.objects["/apis/kubeflow.org/v1"] = {"resources": [{"name": "pytorchjobs"}]}
    api.objects["/apis/apps/v1/deployments"] = []
    allowed = {"status": {"allowed": True}}
    api.objects["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = lambda *_: (201, allowed)
    for path in (JOBS, "/api/v1/namespaces/video/configmaps", "/api/v1/namespaces/video/serviceaccounts"):
        api.objects[path] = []
    return api


def gpu_node(name, memory, gpus="4", **labels):
    labels |= {"nvidia.com/gpu.memory": memory} if memory else {}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": gpus}},
    }


def objects_of(backend, plan):
    return {item["kind"]: item for item in yaml.safe_load_all(backend.render(plan))}


@pytest.mark.parametrize(
    ("nodes", "factor", "backbone_lr", "batch"),
    [
        ([gpu_node("a", "16384")], 2, 2e-4, 16),
        ([gpu_node("a", "16384"), gpu_node("b", "81559")], 2, 2e-4, 16),
        ([gpu_node("b", "80Gi")], 1, 4e-4, 32),
    ],
)
def test_a_plan_follows_the_nodes_to_the_pods(api, backend, real_helm, config, nodes, factor, backbone_lr, batch):
    api.objects["/api/v1/nodes"] = nodes
    plan = backend.plan(config, PLACE)
    assert (plan.effective.downscale, plan.effective.batch_per_gpu) == (factor, batch)
    assert plan.effective.backbone_lr == pytest.approx(backbone_lr)
    assert plan.explanation[0].startswith(f"downscale factor {factor}: ")
    rendered = objects_of(backend, plan)
    assert config_from_pod(rendered["ConfigMap"]["data"]["config.json"]).downscale == str(factor)
    spec = rendered["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    values = sorted(node["metadata"]["labels"]["nvidia.com/gpu.memory"] for node in nodes)
    assert required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == values


def test_the_users_own_placement_decides_which_nodes_count(api, cluster, real_helm, config):
    api.objects["/api/v1/nodes"] = [gpu_node("a", "16384", zone="a"), gpu_node("b", "81559", zone="b")]
    settings = Settings(kubeconfig=cluster.where.kubeconfig, chart_values={"nodeSelector.zone": "b"})
    assert ClusterBackend(settings).plan(config, PLACE).effective.downscale == 1
    place = PlaceOptions(chart_values=("nodeSelector.zone=a",))
    assert ClusterBackend(settings).plan(config, place).effective.downscale == 2


@pytest.mark.parametrize("answer", [None, [gpu_node("a", None)], [], lambda *_: (403, {"message": "no"})])
def test_where_nodes_say_nothing_the_pods_decide(api, backend, real_helm, config, answer):
    if answer is not None:
        api.objects["/api/v1/nodes"] = answer
    plan = backend.plan(config, PLACE)
    assert plan.effective is None
    assert plan.explanation[0].endswith("the pods decide")
    rendered = objects_of(backend, plan)
    assert from_json(rendered["ConfigMap"]["data"]["config.json"]).downscale == "auto"
    assert "affinity" not in rendered["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]


def test_ranks_on_the_cpu_ask_for_no_nodes(api, backend, real_helm, config):
    plan = backend.plan(config, PlaceOptions(chart_values=("gpuResource=",)))
    assert plan.explanation == ("ranks run on the CPU: no GPU is asked for",)
    assert [path for _, path, _, _ in api.requests if path == "/api/v1/nodes"] == []


def test_what_the_user_says_of_image_queue_endpoint_and_chart_arrives(api, cluster, real_helm, config):
    settings = Settings(
        kubeconfig=cluster.where.kubeconfig,
        endpoint_url_in_cluster="http://minio.store:9000",
        chart_values={"store.existingSecret": "s3-login"},
    )
    backend = ClusterBackend(settings)
    rendered = objects_of(backend, backend.plan(config, PlaceOptions(image="registry/tsp:v1", queue="team")))
    labels = rendered["PyTorchJob"]["metadata"]["labels"]
    container = rendered["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
    assert (labels["kueue.x-k8s.io/queue-name"], container["image"]) == ("team", "registry/tsp:v1")
    assert "s3-login" in json.dumps(container["env"])
    assert from_json(rendered["ConfigMap"]["data"]["config.json"]).store.endpoint_url == "http://minio.store:9000"


def test_what_is_shown_is_what_is_installed(api, backend, fake_helm, config):
    manifest = yaml.safe_dump(
        {"kind": "Job", "spec": {"template": {"spec": {"containers": [{"name": "x"}]}}}, "metadata": {"name": "x"}}
    )
    fake_helm.answer(template={"out": manifest})
    plan = backend.plan(config, PLACE)
    assert backend.render(plan) == manifest
    backend.submit(plan)
    shown, installed = fake_helm.calls[-2:]
    assert (shown["arguments"][0], installed["arguments"][0]) == ("template", "install")
    assert shown["text"] == installed["text"]


def test_a_run_that_will_do_passes_and_nothing_is_created(well, backend, real_helm, config):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    plan = backend.plan(config, PLACE)
    backend._helm.exists = lambda name: False
    backend.preflight(plan)
    creating = [query for method, path, query, _ in well.requests if method == "POST" and "accessreviews" not in path]
    assert creating
    assert all(query["dryRun"] == "All" for query in creating)


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (lambda api: api.objects.pop("/apis/kubeflow.org/v1"), ClusterError, "knows no PyTorchJob"),
        (lambda api: api.objects.update({f"{JOBS}/my-run": job()}), ConfigError, "has a run 'my-run' already"),
        (
            lambda api: api.objects.update({"/api/v1/nodes": [gpu_node("a", "16384", gpus="3")]}),
            ClusterError,
            "--gpus 4, but the nodes that ranks can land on have 3 GPUs",
        ),
        (
            lambda api: api.objects.update({JOBS: lambda *_: (403, {"message": "denied by policy"})}),
            ClusterError,
            "PyTorchJob my-run: the API server would refuse it: denied by policy",
        ),
    ],
)
def test_what_will_fail_is_refused_before(well, backend, real_helm, config, break_it, error, message):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    break_it(well)
    backend._helm.exists = lambda name: False
    plan = backend.plan(config, PLACE)
    with pytest.raises(error, match=message):
        backend.preflight(plan)


def test_a_missing_secret_is_refused_before(well, backend, real_helm, config):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    backend._helm.exists = lambda name: False
    with pytest.raises(ClusterError, match="secret: s3-login does not exist"):
        backend.preflight(backend.plan(config, PlaceOptions(chart_values=("store.existingSecret=s3-login",))))


def test_a_data_set_in_a_bucket_must_be_complete(config, s3_server):
    from cli.cluster_plan import check_data

    store = s3_server.config("sets/thumos14")
    config = replace(config, store=store, data=replace(config.data, root=store.uri))
    data = open_store(store)
    for name in ("valid/a.mp4", "test/b.mp4", config.data.train.csv, config.data.valid.csv):
        data.write(name, b"x")
    with pytest.raises(
        DataError, match=r"lacks r2plus1d_34-max_gvf.h5, thumos14_action_label_mapping.json, thumos14_t"
    ):
        check_data(config)
    for name in (config.data.train.gvf, *(head.labels for head in config.model.heads)):
        data.write(name, b"x")
    check_data(config)
    data.delete("test/b.mp4")
    with pytest.raises(DataError, match="test holds no video"):
        check_data(config)


def test_a_jobs_shards_become_pods(backend, fake_helm):
    request = ExtractJob(checkpoint="/c", videos="s3://v", metadata="/m", out="/o")
    fake_helm.answer(
        template={
            "out": yaml.safe_dump(
                {"kind": "Job", "metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": []}}}}
            )
        }
    )
    assert backend.run_job("features", "extract", request, PLACE, gpus=3) is None
    installed = fake_helm.calls[-1]
    values = json.loads(installed["text"])
    assert (installed["arguments"][:2], values["job"]["shards"], values["job"]["gpu"]) == (
        ["install", "features"],
        3,
        True,
    )


def serve_run(api, found, pods=(), name="my-run"):
    api.objects[f"{JOBS}/{name}"] = found
    api.objects[PODS] = list(pods)
    for item in pods:
        item["spec"]["containers"] = [{"name": "pytorch"}]
        api.objects[f"{PODS}/{item['metadata']['name']}"] = item
    api.objects["/api/v1/namespaces/video/events"] = []


def test_a_status_has_state_reason_ranks_and_their_gpus(api, backend):
    store = {"tspctl/store": '{"uri": "s3://bucket/runs"}'}
    serve_run(api, job("Created", "Running", annotations=store), [pod(0), unschedulable("no room", rank=1)])
    labels = {"nvidia.com/gpu.product": "NVIDIA-A10", "nvidia.com/gpu.memory": "23028"}
    api.objects["/api/v1/nodes/node-a"] = {"metadata": {"labels": labels}}
    status = backend.status("my-run")
    assert (status.state, status.gpus, status.store.uri) == ("running", 2, "s3://bucket/runs")
    assert status.reason == "rank 1 cannot be scheduled: no room"
    assert [(item.rank, item.state, item.where, item.gpu) for item in status.ranks] == [
        (0, "running", "node-a", "NVIDIA-A10, 23028 MiB"),
        (1, "pending", None, None),
    ]
    assert status.created == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_failed_run_has_the_exit_code_of_the_rank_that_ended_it(api, backend):
    pods = [pod(0, "Failed", state=terminated(150)), pod(1, "Failed", state=terminated(3, message="error: bad.mp4"))]
    serve_run(api, job("Failed"), pods)
    status = backend.status("my-run")
    assert (status.state, status.exit_code) == ("failed", 3)
    assert status.reason == "rank 1 ended with exit code 3 (bad data): error: bad.mp4"


def test_what_is_not_ours_or_not_there_is_no_run(api, backend):
    assert backend.status("my-run") is None
    serve_run(api, job(labels={"app.kubernetes.io/part-of": "somebody"}))
    assert backend.status("my-run") is None


def test_a_thousand_runs_are_listed_in_few_requests(api, backend):
    runs = []
    for index in range(1000):
        item = job("Created", "Running", name=f"run-{index}")
        item["metadata"] |= {
            "uid": str(index),
            "creationTimestamp": f"2030-01-01T00:{index // 60:02d}:{index % 60:02d}Z",
        }
        runs.append(item)
    api.objects[JOBS] = runs
    waits = unschedulable("no room")
    waits["metadata"]["labels"]["training.kubeflow.org/job-name"] = "run-7"
    api.objects[PODS] = [waits]
    found = list(backend.list_runs())
    assert (len(found), found[0].name, found[-1].name) == (1000, "run-999", "run-0")
    assert next(item for item in found if item.name == "run-7").reason == "rank 0 cannot be scheduled: no room"
    assert len(api.requests) <= 5


def test_a_helm_test_is_no_run(api, backend):
    hook = {"metadata": {"name": "r-test", "uid": "1", "annotations": {"helm.sh/hook": "test"}}, "spec": {}}
    api.objects["/apis/batch/v1/namespaces/video/jobs"] = [hook]
    assert list(backend.list_runs()) == []


def test_logs_come_from_the_pods_without_the_programs_own_stamp(api, backend):
    serve_run(api, job("Succeeded"), [pod(0, "Succeeded", state=terminated(0))])
    line = b"2030-01-01T00:00:01.500000000Z 2030-01-01T00:00:01.499+00:00 INFO epoch 1\n"
    api.logs["my-run-master-0"] = FakeLog([line])
    for follow in (False, True):
        (found,) = backend.logs("my-run", LogQuery(follow=follow))
        assert (found.rank, found.text) == (0, "INFO epoch 1")
        assert found.time == datetime(2030, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_a_line_reads_the_same_from_a_pod_and_from_the_store(api, backend, tmp_path):
    """As the entrypoint writes it: followed lines and stored ones can be compared, and neither says its rank twice."""
    written = [
        b"2030-01-01T00:00:01.499Z rank 1 INFO epoch 1",
        b"Traceback (most recent call last):",
        b"2030-01-01T00:00:03.000Z rank 1 INFO of rank 1 and rank 0",
        b"2030-01-01T00:00:04.000Z rank 1 INFO 10%\r100%\r",
    ]
    log = tmp_path / "attempt-1" / "rank-1.log"
    log.parent.mkdir()
    log.write_bytes(b"".join(line + b"\n" for line in written))
    stored = [(line.rank, line.text) for line in read_lines(FolderLogs(tmp_path), LogQuery())]
    serve_run(api, job("Succeeded"), [pod(1, "Succeeded", state=terminated(0))])
    api.logs["my-run-worker-0"] = FakeLog([b"2030-01-01T00:00:05.5Z " + line + b"\n" for line in written])
    for follow in (False, True):
        assert [(line.rank, line.text) for line in backend.logs("my-run", LogQuery(follow=follow))] == stored
    assert stored[0] == (1, "INFO epoch 1")
    assert stored[2:] == [(1, "INFO of rank 1 and rank 0"), (1, "100%")]


@pytest.mark.parametrize("query", [LogQuery(previous=True), LogQuery(attempt=1), LogQuery(), LogQuery(follow=True)])
def test_what_no_pod_has_is_left_to_the_store(api, backend, query):
    serve_run(api, job("Succeeded"))
    assert backend.logs("my-run", query) is None
    assert backend.logs("other", query) is None


def suspending(api, found, *, pods_go=True):
    """An operator in miniature: takes the pods away when the job is suspended."""
    patches = []

    def answer(method, query, body):
        if method == "PATCH":
            patches.append(body)
            found["spec"]["runPolicy"] |= body.get("spec", {}).get("runPolicy", {})
            found["metadata"]["annotations"] |= body["metadata"]["annotations"]
            if pods_go:
                api.objects[PODS] = []
        return 200, found

    api.objects[f"{JOBS}/my-run"] = answer
    return patches


def stored(tmp_path):
    return {"tspctl/store": json.dumps({"uri": f"file://{tmp_path}/store"})}


def test_cancelling_takes_the_pods_away_and_writes_the_outcome_down(api, backend, tmp_path):
    found = job("Running", annotations=stored(tmp_path))
    serve_run(api, found, [pod(0), pod(1)])
    patches = suspending(api, found)
    backend.cancel("my-run", grace_sec=5)
    expected = {"annotations": {"tspctl/stopped": "cancelled"}}
    assert patches == [{"metadata": expected, "spec": {"runPolicy": {"suspend": True}}}]
    assert backend.status("my-run").state == "cancelled"
    outcome = Run(open_store(StoreConfig(uri=f"file://{tmp_path}/store")), "my-run").read_outcome()
    assert (outcome.state, outcome.exit_code) == ("cancelled", 143)
    with pytest.raises(ConfigError, match="has ended already"):
        backend.cancel("my-run", grace_sec=5)


def test_pods_that_do_not_go_in_time_are_killed(api, backend, tmp_path):
    found = job("Running")
    serve_run(api, found, [pod(0)])
    suspending(api, found, pods_go=False)
    backend.suspend("my-run", grace_sec=0.05)
    deleted = [(path, query) for method, path, query, _ in api.requests if method == "DELETE"]
    assert deleted == [(f"{PODS}/my-run-master-0", {"gracePeriodSeconds": "0"})]


def test_a_run_in_a_queue_is_stopped_through_kueue(api, backend):
    found = job("Running", labels={"kueue.x-k8s.io/queue-name": "team"})
    serve_run(api, found)
    suspending(api, found)
    workloads = "/apis/kueue.x-k8s.io/v1beta1/namespaces/video/workloads"
    api.objects[workloads] = [{"metadata": {"name": "w"}}]
    sent = []
    api.objects[f"{workloads}/w"] = lambda method, query, body: sent.append(body) or (200, {})
    backend.suspend("my-run", grace_sec=1)
    assert sent == [{"spec": {"active": False}}]
    assert found["spec"]["runPolicy"]["suspend"] is False


def test_a_suspended_run_is_resumed_by_the_operator(api, backend, config):
    found = job("Suspended", suspend=True, annotations={"tspctl/stopped": "suspended"})
    serve_run(api, found)
    patches = suspending(api, found)
    backend.resume("my-run", config)
    expected = {"annotations": {"tspctl/stopped": None}}
    assert patches == [{"metadata": expected, "spec": {"runPolicy": {"suspend": False}}}]


def test_a_failed_run_is_resumed_by_a_new_release_with_the_same_values(api, backend, fake_helm, config):
    serve_run(api, job("Failed"))
    fake_helm.has_release()
    fake_helm.answer(get={"out": '{"gpus": 2}'})
    backend.resume("my-run", config)
    assert [call["arguments"][0] for call in fake_helm.calls] == ["get", "status", "uninstall", "install"]
    assert json.loads(fake_helm.calls[-1]["text"]) == {"gpus": 2}


def test_a_running_run_cannot_be_resumed_or_deleted(api, backend, config):
    serve_run(api, job("Running"), [pod(0)])
    with pytest.raises(ConfigError, match="is running: there is nothing to resume"):
        backend.resume("my-run", config)
    with pytest.raises(ConfigError, match="stop it first with 'tspctl cancel my-run'"):
        backend.delete("my-run")


def test_deleting_uninstalls_the_release_and_what_a_test_left(api, backend, fake_helm):
    serve_run(api, job("Succeeded"))
    fake_helm.has_release()
    backend.delete("my-run")
    assert fake_helm.calls[-1]["arguments"][:2] == ["uninstall", "my-run"]
    assert api.requests[-1][:2] == ("DELETE", "/apis/batch/v1/namespaces/video/jobs/my-run-test")


def test_a_command_needs_a_rank_that_runs(api, backend):
    with pytest.raises(NoSuchRunError, match="no run 'my-run' in namespace video"):
        backend.execute("my-run", 0, ["true"])
    serve_run(api, job("Running"), [pod(0), pod(1, "Pending")])
    with pytest.raises(ConfigError, match="--rank 5: run my-run is running; ranks that have a pod now: 0, 1"):
        backend.execute("my-run", 5, ["true"])
    with pytest.raises(ConfigError, match="rank 1 of run my-run is starting, not running"):
        backend.execute("my-run", 1, ["true"])


def test_the_doctor_looks_at_everything_and_stops_where_there_is_no_cluster(well, backend, fake_helm):
    fake_helm.answer(version={"out": "v3.22.0\n"})
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    findings = {item.what: item for item in backend.diagnose()}
    assert (findings["helm"].message, findings["GPUs"].level) == ("v3.22.0", "ok")
    assert findings["GPUs"].message.startswith("4 on 1 nodes; downscale factor 2")
    assert {item.level for item in findings.values()} == {"ok"}
    well.failures = [None] * 9
    assert list(backend.diagnose())[-1].level == "error"
