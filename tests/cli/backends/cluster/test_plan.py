"""What is looked at before anything is created, with a real chart and a real Helm against a small API server."""

import json
import os
from dataclasses import replace

import pytest

from cli.backends.base import BackendOptions
from cli.backends.checks import run_checks
from cli.backends.cluster.backend import ClusterBackend
from cli.backends.cluster.room import pod_spec
from cli.options.settings import Settings
from cli.stores import Stores
from k8s.helm import objects_in
from tests.k8s.objects import job
from tests.k8s.serving import INDEXED_JOBS, JOBS, gpu_node
from tsp.config.jobs import ExtractJob, GvfJob, StandardizeJob
from tsp.config.store import StoreConfig
from tsp.errors import ClusterError, ConfigError, StoreUnreachableError

OPTIONS = BackendOptions()


@pytest.fixture
def lasting(config, well):
    """A claim at the folder of the store."""
    well.objects["/api/v1/namespaces/video/persistentvolumeclaims/runs"] = {"metadata": {}}
    volume = ("extraVolumes[0].name=runs", "extraVolumes[0].persistentVolumeClaim.claimName=runs")
    mount = ("extraVolumeMounts[0].name=runs", f"extraVolumeMounts[0].mountPath={config.store.uri}")
    return BackendOptions(chart_values=(*volume, *mount))


def test_a_run_that_will_do_passes_and_nothing_is_created(well, backend, real_helm, config, lasting):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    run_checks(backend.checks(backend.plan(config, lasting)))
    creating = [query for method, path, query, _ in well.requests if method == "POST" and "accessreviews" not in path]
    assert creating
    assert all(query["dryRun"] == "All" for query in creating)


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (lambda api: api.objects.pop("/apis/kubeflow.org/v1"), ClusterError, "serves neither PyTorchJob nor TrainJob"),
        (lambda api: api.objects.update({f"{JOBS}/my-run": job()}), ConfigError, "already has a run 'my-run'"),
        (
            lambda api: api.objects.update({"/api/v1/nodes": [gpu_node("a", "16384", gpus="3")]}),
            ClusterError,
            "--gpus 4, but the nodes that ranks can use have 3 GPUs",
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
    plan = backend.plan(config, OPTIONS)
    with pytest.raises(error, match=message):
        run_checks(backend.checks(plan))


def test_a_missing_secret_is_refused_before(well, backend, real_helm, config):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    with pytest.raises(ClusterError, match="secret: s3-login does not exist"):
        run_checks(
            backend.checks(backend.plan(config, BackendOptions(chart_values=("store.existingSecret=s3-login",))))
        )


def of_amd(node):
    node["status"]["allocatable"] = {"amd.com/gpu": "8"}
    return node


def cramped(node, cpu):
    node["status"]["allocatable"]["cpu"] = cpu
    return node


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "--gpus 4, but the nodes that ranks can use have 0 GPUs in total"),
        ([of_amd(gpu_node("a", None))], "have 0 GPUs in total .*; nodes have amd.com/gpu, on which CUDA does not run"),
        ([gpu_node("a", None, gpus="3")], "--gpus 4, but the nodes that ranks can use have 3 GPUs in total"),
        (
            [cramped(gpu_node("a", "16384", gpus="8"), "19")],
            "--gpus 4, but CPU and memory of the nodes suffice for 3 ranks at a time .*: lower resources.requests",
        ),
    ],
)
def test_more_ranks_than_the_nodes_could_ever_hold_are_refused(
    well, cluster, real_helm, config, lasting, nodes, message
):
    """An autoscaler may add nodes, and a queue may know of others: then it is not for the nodes of now to say."""
    well.objects["/api/v1/nodes"] = nodes
    settings = Settings(kubeconfig=cluster.where.kubeconfig)
    backend = ClusterBackend(settings, Stores())
    with pytest.raises(ClusterError, match=message) as refused:
        run_checks(backend.checks(backend.plan(config, lasting)))
    assert "if an autoscaler adds nodes, set check_nodes = false" in str(refused.value)
    backend = ClusterBackend(replace(settings, check_nodes=False), Stores())
    run_checks(backend.checks(backend.plan(config, lasting)))
    well.objects["/apis/kueue.x-k8s.io/v1beta2/namespaces/video/localqueues/team"] = {"metadata": {}}
    well.objects[JOBS] = lambda method, query, body: (201, {**body, "spec": {"runPolicy": {"suspend": True}}})
    backend = ClusterBackend(settings, Stores())
    run_checks(backend.checks(backend.plan(config, replace(lasting, queue="team"))))


def test_nodes_that_may_not_be_seen_are_taken_on_trust(well, backend, real_helm, config, lasting):
    well.objects["/api/v1/nodes"] = lambda *_: (403, {"message": "no"})
    run_checks(backend.checks(backend.plan(config, lasting)))


def test_a_run_whose_results_would_go_with_its_pods_is_refused(well, backend, real_helm, config):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    with pytest.raises(ClusterError, match=f"store: {config.store.uri} is not on a volume that outlives the pods"):
        run_checks(backend.checks(backend.plan(config, OPTIONS)))


# The store and the data set in a bucket


def test_a_store_that_does_not_answer_is_refused(well, backend, real_helm, config, monkeypatch):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    store = StoreConfig(uri="s3://runs/x", endpoint_url="http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("tsp.store.s3.client.time.sleep", lambda seconds: None)
    with pytest.raises(StoreUnreachableError, match="s3://runs"):
        run_checks(backend.checks(backend.plan(replace(config, store=store), OPTIONS)))


# Auxiliary jobs


@pytest.fixture
def claim(well):
    well.objects |= {INDEXED_JOBS: [], "/api/v1/namespaces/video/persistentvolumeclaims/videos": {"metadata": {}}}
    return {"data.claim": "videos", "data.readOnly": False}


@pytest.fixture
def send(cluster, real_helm, monkeypatch):
    """Send a job with these chart values; returns what Helm was given to install."""

    def run(name, job, *, gpus=1, **values):
        installed = []
        backend = ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig, chart_values=values), Stores())
        monkeypatch.setattr(
            backend._helm, "install", lambda name, chart, values, labels: installed.append((name, values))
        )
        assert backend.run_job(name, job, OPTIONS, gpus=gpus) is None
        return installed

    return run


EXTRACT = ExtractJob(checkpoint="/data/c.pth", videos="s3://v", metadata="/data/m.csv", out="/data/o.h5")


def test_a_jobs_shards_become_pods(send, claim):
    ((name, values),) = send("features", EXTRACT, gpus=3, **claim)
    assert (name, values["job"]["shards"], values["job"]["gpu"]) == ("features", 3, True)
    assert json.loads(values["job"]["request"])["shards"] == 3


@pytest.mark.parametrize(
    ("job", "values", "message"),
    [
        (EXTRACT, {"data.readOnly": True}, "output: /data/o.h5 is mounted read-only: set data.readOnly to false"),
        (EXTRACT, {"data.claim": ""}, "output: /data/o.h5 is not on a volume that outlives the pods"),
        (
            StandardizeJob(source="/data/raw", dest="/tmp/v"),
            {},
            "output: /tmp/v is not on a volume that outlives the pods",
        ),
        (EXTRACT, {"data.claim": "gone"}, "volume claim: gone does not exist in namespace video"),
    ],
)
def test_a_job_that_could_not_keep_what_it_makes_is_refused(send, claim, job, values, message):
    with pytest.raises(ClusterError, match=message):
        send("job", job, **{**claim, **values})


def test_a_job_that_the_server_would_refuse_is_refused_before(send, claim, well):
    well.objects[INDEXED_JOBS] = lambda *_: (403, {"message": "quota of jobs is exceeded"})
    with pytest.raises(ClusterError, match="Job features: the API server would refuse it: quota of jobs is exceeded"):
        send("features", EXTRACT, **claim)


def test_a_jobs_name_that_is_too_long_is_refused_before_anything_is_asked(send, claim, api):
    with pytest.raises(ConfigError, match="at most 44"):
        send("f" * 45, EXTRACT, **claim)
    assert api.requests == []


def test_a_queue_that_nobody_manages_is_refused_with_what_to_enable(well, cluster, real_helm, config, lasting):
    """Kueue from 0.19 on passes over PyTorchJobs unless told otherwise: the run would start past every quota."""
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    well.objects["/apis/kueue.x-k8s.io/v1beta2/namespaces/video/localqueues/team"] = {"metadata": {}}
    backend = ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig), Stores())
    well.objects[JOBS] = lambda method, query, body: (201, body)
    with pytest.raises(ClusterError, match=r"queue team, but Kueue does not manage it.*kubeflow.org/pytorchjob"):
        run_checks(backend.checks(backend.plan(config, replace(lasting, queue="team"))))


def test_everyday_options_reach_the_manifest(well, cluster, real_helm, config, lasting):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384", zone="b")]
    backend = ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig), Stores())
    pods = {"priority": "high", "node_selector": ("zone=b",), "env": ("A=1",)}
    plan = backend.plan(config, replace(lasting, pods=pods))
    pod = pod_spec(objects_in(plan.manifest))
    assert (pod["priorityClassName"], pod["nodeSelector"]) == ("high", {"zone": "b"})
    assert {"name": "A", "value": "1"} in pod["containers"][0]["env"]
    with pytest.raises(ConfigError, match="--volume and --chart-value extraVolumes set the same list"):
        backend.plan(config, replace(lasting, pods={"volumes": ("videos:/videos:ro",)}))


@pytest.mark.parametrize("option", ["chart_value", "setting"])
def test_gpu_resource_and_memory_label_are_read_from_what_the_chart_renders(
    well, cluster, real_helm, config, lasting, option
):
    """However they were given, and beside another device in the limits."""
    resource, label = "nvidia.com/mig-3g.40gb", "nvidia.com/mig-3g.40gb.memory"
    node = gpu_node("a", "81559", **{label: "16384"})
    node["status"]["allocatable"] |= {resource: "4", "rdma/hca": "8"}
    well.objects["/api/v1/nodes"] = [node]
    values = {"gpuResource": resource, "resources.limits": {"rdma/hca": "1"}}
    settings = Settings(kubeconfig=cluster.where.kubeconfig, chart_values=values if option == "setting" else {})
    given = (f"gpuResource={resource}", "resources.limits.rdma/hca=1") if option == "chart_value" else ()
    plan = ClusterBackend(settings, Stores()).plan(
        config, replace(lasting, chart_values=(*lasting.chart_values, *given))
    )
    assert (plan.effective.downscale, plan.nodes.gpus) == (2, 4)
    required = pod_spec(objects_in(plan.manifest))["affinity"]["nodeAffinity"]
    assert label in str(required)


@pytest.fixture
def aws_of_this_machine(monkeypatch, tmp_path):
    """Where S3 is, said by AWS's own variables alone."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "aws").write_text("[profile team]\nregion = eu-west-3\n")
    own = {"AWS_CONFIG_FILE": str(tmp_path / "aws"), "AWS_PROFILE": "team", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in {**own, "AWS_ENDPOINT_URL_S3": "https://s3.example"}.items():
        monkeypatch.setenv(name, value)
    return ["https://s3.example", "eu-west-3"]


def test_what_awss_variables_say_on_this_machine_is_sent_to_the_pods_of_a_run(
    well, backend, real_helm, config, aws_of_this_machine
):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    plan = backend.plan(replace(config, store=StoreConfig(uri="s3://bucket/runs")), OPTIONS)
    (sent,) = [item["data"]["config.json"] for item in objects_in(plan.manifest) if item["kind"] == "ConfigMap"]
    store = json.loads(sent)["store"]
    assert [store["endpoint_url"], store["region"]] == aws_of_this_machine


def test_what_awss_variables_say_on_this_machine_is_sent_to_the_pods_of_a_job(send, claim, aws_of_this_machine):
    job = replace(EXTRACT, store=StoreConfig(uri="s3://bucket/runs"))
    ((_, values),) = send("features", job, **claim)
    store = json.loads(values["job"]["request"])["store"]
    assert [store["endpoint_url"], store["region"]] == aws_of_this_machine


def test_a_file_of_this_machine_is_no_input_of_a_job_on_the_cluster(well, send, tmp_path):
    table = tmp_path / "m.csv"
    table.write_text("filename\n")
    job = GvfJob(checkpoint="s3://b/c.pth", videos="s3://b/v", metadata=str(table), out="s3://b/o.h5")
    with pytest.raises(ConfigError, match=f"--metadata {table} is a file or folder of this machine"):
        send("g", job)


@pytest.mark.parametrize(
    ("cpu", "line"), [(None, "4 per rank (5 CPUs requested)"), ("500m", "1 per rank (0.5 CPUs requested)")]
)
def test_data_workers_that_nobody_chose_are_shown(well, backend, real_helm, config, lasting, cpu, line):
    well.objects["/api/v1/nodes"] = [gpu_node("a", "16384")]
    values = () if cpu is None else (f"resources.requests.cpu={cpu}",)
    options = replace(lasting, chart_values=(*lasting.chart_values, *values))
    assert f"data workers: {line}" in backend.plan(config, options).explanation
    chosen = replace(config, data=replace(config.data, workers=2))
    assert not any("data workers" in shown for shown in backend.plan(chosen, options).explanation)


@pytest.mark.parametrize(
    ("product", "words"),
    [
        ("NVIDIA-H100-80GB-HBM3", ("H.264 provides about", "needs about", "write training copies")),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", ()),
        ("Quadro-T400", ()),
        (None, ()),
    ],
)
def test_the_plan_says_beforehand_where_the_data_path_starves_the_card(
    well, backend, real_helm, config, lasting, product, words
):
    node = gpu_node("a", "81559")
    if product is not None:
        node["metadata"]["labels"]["nvidia.com/gpu.product"] = product
    well.objects["/api/v1/nodes"] = [node]
    large = replace(config, model=replace(config.model, backbone="r2plus1d_18"))
    said = [line for line in backend.plan(large, lasting).explanation if "provides about" in line]
    assert len(said) == bool(words)
    assert all(word in said[0] for word in words)


@pytest.mark.parametrize(
    ("assignments", "values", "said"),
    [
        (("gpusPerPod=x",), None, "at '/gpusPerPod': got string, want integer"),
        (("gpus=3",), None, r"config\.gpus is 4, but gpus is 3$"),
        (("=b",), None, "--chart-value '=b' has no key: expected KEY=VALUE"),
        ((), "queue: a\n---\ngpusPerPod: 2\n", "has several YAML documents, of which Helm would read only the first"),
        ((), "queue: a\n---\n", None),
        (
            (),
            "shm: {sizeLimit: 1Gi}\nqueue: a\nqueue: b\n",
            r"line 3: 'queue' is given twice; Helm would read only the",
        ),
        ((), "podLabels: {a: b, c: d, a: e}\n", "line 1: 'a' is given twice; Helm would read only the last"),
        ((), "podLabels: &a {a: b}\nnodeSelector: {<<: *a, a: c}\n", None),
    ],
)
def test_values_that_the_chart_refuses_are_a_matter_of_configuration(
    well, backend, real_helm, config, tmp_path, assignments, values, said
):
    (tmp_path / "values.yaml").write_text(values or "")
    files = () if values is None else (str(tmp_path / "values.yaml"),)
    options = BackendOptions(chart_values=assignments, chart_value_files=files)
    if said is None:
        backend.plan(config, options)
        return
    with pytest.raises(ConfigError, match=said):
        backend.plan(config, options)
