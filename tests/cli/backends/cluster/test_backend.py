"""The cluster as a place to run: a real chart and a real Helm against a small API server."""

import json
from datetime import UTC, datetime

import pytest
import yaml

from cli.backends.base import BackendOptions, LogQuery
from cli.backends.cluster.backend import ClusterBackend
from cli.backends.log_lines import FolderLogs, read_lines
from cli.options.settings import Settings
from cli.stores import Stores
from tests.k8s.fake_api import FakeLog
from tests.k8s.objects import indexed_job, job, pod, shard, terminated, unschedulable
from tests.k8s.serving import PODS, gpu_node, serve_run
from tsp.config.pod_request import config_from_pod
from tsp.config.run import from_json
from tsp.errors import ConfigError, NoSuchRunError

PLACE = BackendOptions()


def objects_of(backend, plan):
    return {item["kind"]: item for item in yaml.load_all(backend.render(plan), yaml.CSafeLoader)}


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
    assert ClusterBackend(settings, Stores()).plan(config, PLACE).effective.downscale == 1
    options = BackendOptions(chart_values=("nodeSelector.zone=a",))
    assert ClusterBackend(settings, Stores()).plan(config, options).effective.downscale == 2


@pytest.mark.parametrize("answer", [None, [gpu_node("a", None)], [], lambda *_: (403, {"message": "no"})])
def test_where_nodes_say_nothing_the_pods_decide(api, backend, real_helm, config, answer):
    if answer is not None:
        api.objects["/api/v1/nodes"] = answer
    plan = backend.plan(config, PLACE)
    assert plan.effective is None
    assert plan.explanation[0].endswith("the pods decide")
    rendered = objects_of(backend, plan)
    assert from_json(rendered["ConfigMap"]["data"]["config.json"]).downscale == "auto"
    master = rendered["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert "nodeAffinity" not in master["affinity"]


def test_ranks_on_the_cpu_ask_for_no_nodes(api, backend, real_helm, config):
    plan = backend.plan(config, BackendOptions(chart_values=("gpuResource=",)))
    assert plan.explanation == ("ranks run on the CPU: no GPU is requested",)
    assert [path for _, path, _, _ in api.requests if path == "/api/v1/nodes"] == []


def test_what_the_user_says_of_image_queue_endpoint_and_chart_arrives(api, cluster, real_helm, config):
    settings = Settings(
        kubeconfig=cluster.where.kubeconfig,
        endpoint_url_in_cluster="http://minio.store:9000",
        chart_values={"store.existingSecret": "s3-login"},
    )
    backend = ClusterBackend(settings, Stores())
    rendered = objects_of(backend, backend.plan(config, BackendOptions(image="registry/tsp:v1", queue="team")))
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


def test_a_status_has_state_reason_ranks_and_their_gpus(api, backend):
    store = {"tspctl/store": '{"uri": "s3://bucket/runs"}'}
    serve_run(api, job("Created", "Running", annotations=store), [pod(0), unschedulable("no room", rank=1)])
    labels = {"nvidia.com/gpu.product": "NVIDIA-A10", "nvidia.com/gpu.memory": "23028"}
    api.objects["/api/v1/nodes/node-a"] = {"metadata": {"labels": labels}}
    status = backend.status("my-run")
    assert (status.state, status.gpus, status.store.uri) == ("running", 2, "s3://bucket/runs")
    assert status.reason == (
        "1 of 2 ranks hold their requested resources, for placement_timeout_sec at most; "
        "rank 1 cannot be scheduled: no room"
    )
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


def test_a_helm_test_is_no_run(api, backend):
    hook = {"metadata": {"name": "r-test", "uid": "1", "annotations": {"helm.sh/hook": "test"}}, "spec": {}}
    api.objects["/apis/batch/v1/namespaces/video/jobs"] = [hook]
    assert list(backend.list_runs()) == []


def test_logs_come_from_the_pods_without_the_programs_own_stamp(api, backend):
    serve_run(api, job("Succeeded", gpus=1), [pod(0, "Succeeded", state=terminated(0))])
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
    serve_run(api, job("Succeeded"), [pod(rank, "Succeeded", state=terminated(0)) for rank in (0, 1)])
    api.logs["my-run-master-0"] = FakeLog()
    api.logs["my-run-worker-0"] = FakeLog([b"2030-01-01T00:00:05.5Z " + line + b"\n" for line in written])
    for follow in (False, True):
        assert [(line.rank, line.text) for line in backend.logs("my-run", LogQuery(follow=follow))] == stored
    assert stored[0] == (1, "INFO epoch 1")
    assert stored[2:] == [(1, "INFO of rank 1 and rank 0"), (1, "100%")]


@pytest.mark.parametrize("follow", [False, True])
def test_where_workers_were_taken_away_at_the_end_the_store_has_more(api, backend, follow):
    """cleanPodPolicy Running removes workers that still run when the master ends, and their logs with them."""
    serve_run(api, job("Succeeded", gpus=4), [pod(0, "Succeeded", state=terminated(0))])
    assert backend.logs("my-run", LogQuery(follow=follow)) is None
    serve_run(api, job("Failed", gpus=4), [pod(0, "Failed", state=terminated(3))])
    api.logs["my-run-master-0"] = FakeLog([b"2030-01-01T00:00:01Z killed before it was stored\n"])
    assert [line.text for line in backend.logs("my-run", LogQuery(follow=follow))] == ["killed before it was stored"]


def test_the_shards_of_a_job_are_read_from_their_pods_alone(api, backend, caplog):
    serve_run(api, indexed_job("Complete"), [shard(1, "Succeeded", state=terminated(0))])
    api.logs["my-job-1-abcde"] = FakeLog([b"2030-01-01T00:00:02Z 2030-01-01T00:00:01Z rank 1 INFO done\n"])
    for query in (LogQuery(), LogQuery(follow=True), LogQuery(attempt=1)):
        assert [(line.rank, line.text) for line in backend.logs("my-job", query)] == [(1, "INFO done")]
    api.objects[PODS] = []
    assert list(backend.logs("my-job", LogQuery())) == []
    assert "my-job is succeeded and its pods are gone, and their logs with them" in caplog.text


@pytest.mark.parametrize("query", [LogQuery(previous=True), LogQuery(attempt=1), LogQuery(), LogQuery(follow=True)])
def test_what_no_pod_has_is_left_to_the_store(api, backend, query):
    serve_run(api, job("Succeeded"))
    assert backend.logs("my-run", query) is None
    assert backend.logs("other", query) is None


def test_a_command_needs_a_rank_that_runs(api, backend):
    with pytest.raises(NoSuchRunError, match="no run 'my-run' in namespace video"):
        backend.execute("my-run", 0, ["true"])
    serve_run(api, job("Running"), [pod(0), pod(1, "Pending")])
    with pytest.raises(ConfigError, match="run my-run has no rank 5: its ranks are 0 to 1"):
        backend.execute("my-run", 5, ["true"])
    with pytest.raises(ConfigError, match="rank 1 of run my-run is starting, not running"):
        backend.execute("my-run", 1, ["true"])
    serve_run(api, job("Running"), [pod(0)])
    with pytest.raises(ConfigError, match=r"rank 1 of run my-run has no pod \(the run is \w+\); ranks with a pod: 0"):
        backend.execute("my-run", 1, ["true"])


def test_a_command_runs_in_the_pod_that_replaced_another(api, backend, monkeypatch):
    """A Job keeps pods that were evicted."""
    monkeypatch.setattr("cli.backends.cluster.backend.run_in_pod", lambda _cluster, name, *_: len(name))
    lost, new = shard(1, "Failed", reason="Evicted"), shard(1)
    new["metadata"] |= {"name": "my-job-1-replacement", "uid": "another"}
    serve_run(api, indexed_job(), [shard(0), lost, new])
    assert backend.execute("my-job", 1, ["true"]) == len("my-job-1-replacement")


def test_the_doctor_looks_at_everything_and_stops_where_there_is_no_cluster(well, backend, fake_helm):
    fake_helm.answer(version={"out": "v3.22.0\n"})
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    findings = {item.what: item for item in backend.diagnose()}
    assert (findings["helm"].message, findings["GPUs"].level) == ("v3.22.0", "ok")
    assert findings["GPUs"].message.startswith("4 on 1 node; downscale factor 2")
    assert {item.level for item in findings.values()} == {"ok"}
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384", **{"nvidia.com/cuda.driver-version.major": "535"})]
    drivers = next(item for item in backend.diagnose() if item.what == "GPU drivers")
    assert (drivers.level, "which needs 580: a 535" in drivers.message) == ("error", True)
    fake_helm.answer(version={"out": "v3.9.4\n"})
    helm = next(iter(backend.diagnose()))
    assert (helm.level, helm.message.startswith("v3.9.4, older than v3.14: see https://helm.sh")) == ("warning", True)
    well.failures = [None] * 9
    assert list(backend.diagnose())[-1].level == "error"
