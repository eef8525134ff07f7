"""The PyTorchJob of a run, and the Indexed Job of everything else."""

import json

import pytest

from tests.chart.conftest import HelmError


@pytest.mark.parametrize("gpus", [1, 2, 8, 64])
def test_n_gpus_make_one_master_and_n_minus_one_workers(render, gpus):
    replicas = render(gpus=gpus)["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]
    assert replicas["Master"]["replicas"] == 1
    if gpus == 1:
        assert set(replicas) == {"Master"}
    else:
        assert replicas["Worker"]["replicas"] == gpus - 1


def test_every_rank_has_one_gpu_and_the_container_name_the_operator_insists_on(render):
    replicas = render(gpus=2, masterFirst=False)["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]
    for spec in replicas.values():
        (container,) = spec["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"
        assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
        assert container["command"] == ["python", "-m", "tsp.entrypoint"]
    assert replicas["Master"]["template"] == replicas["Worker"]["template"]


def test_lost_ranks_are_retried_by_exit_code_and_workers_do_not_outlive_the_master(render):
    spec = render()["PyTorchJob"]["spec"]
    assert {item["restartPolicy"] for item in spec["pytorchReplicaSpecs"].values()} == {"ExitCode"}
    assert spec["runPolicy"] == {"cleanPodPolicy": "Running", "suspend": False}


def test_run_policy_is_passed_on(render):
    policy = {"suspend": True, "backoffLimit": 0, "activeDeadlineSeconds": 600, "ttlSecondsAfterFinished": 60}
    assert render(runPolicy=policy)["PyTorchJob"]["spec"]["runPolicy"] == {"cleanPodPolicy": "Running", **policy}


def test_a_queue_is_named_by_kueues_label(render):
    labels = render(queue="team-a")["PyTorchJob"]["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "kueue.x-k8s.io/queue-name" not in render()["PyTorchJob"]["metadata"]["labels"]


def test_the_job_says_where_the_run_is_stored_and_no_more(render):
    store = {"uri": "s3://bucket/runs", "endpointUrl": "http://minio:9000", "existingSecret": "s3-login"}
    recorded = json.loads(render(store=store)["PyTorchJob"]["metadata"]["annotations"]["tspctl/store"])
    assert recorded == {
        "uri": "s3://bucket/runs",
        "endpoint_url": "http://minio:9000",
        "path_style": True,
        "checksums": "auto",
    }


@pytest.mark.parametrize("kind", ["extract", "gvf", "standardize", "probe", "annotate", "check", "demo", "evaluate"])
def test_other_jobs_are_indexed_and_read_their_request_on_standard_input(render, kind):
    request = '{"videos": "/data/videos"}'
    rendered = render(job={"kind": kind, "request": request, "shards": 3}, gpus=1)
    assert "PyTorchJob" not in rendered
    spec = rendered["Job"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert rendered.config.strip() == request
    assert rendered.container["command"][-1] == kind
    assert '<"$TSP_CONFIG"' in rendered.container["command"][2]
    assert {"name": "TSP_NUM_SHARDS", "value": "3"} in rendered.container["env"]
    assert rendered.pod["restartPolicy"] == "Never"


@pytest.mark.parametrize("gpu", [True, False])
def test_only_a_job_that_asks_for_a_gpu_gets_one(render, gpu):
    rendered = render(job={"kind": "extract", "request": "{}", "gpu": gpu})
    assert ("nvidia.com/gpu" in rendered.container["resources"].get("limits", {})) is gpu


def test_a_job_ends_at_once_on_every_permanent_exit_code_but_bad_data_which_ends_its_shard_alone(render):
    from tsp.errors import POD_EXIT_MEANINGS, DataError

    spec = render(job={"kind": "probe", "request": "{}", "backoffLimit": 4})["Job"]["spec"]
    codes = {rule["action"]: rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"]
             if "onExitCodes" in rule}  # fmt: skip
    permanent = [code for code in sorted(POD_EXIT_MEANINGS) if 0 < code < 128]
    assert codes == {
        "FailIndex": [DataError.exit_code],
        "FailJob": [code for code in permanent if code != DataError.exit_code],
    }
    # Kubernetes knows FailIndex only where tries are counted by shard.
    assert (spec["backoffLimitPerIndex"], "backoffLimit" in spec) == (4, False)


def test_without_a_gpu_resource_ranks_run_on_cpu(render):
    rendered = render(gpuResource="", plan={"memoryValues": ["16384"]})
    assert rendered.container["resources"] == {"requests": {"cpu": "5", "memory": "10240Mi"}}


def test_a_job_without_a_request_is_refused(render):
    with pytest.raises(HelmError, match=r"job\.request is empty"):
        render(job={"kind": "extract"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 45, "has 45 characters; at most 44 are allowed"),
        ("1-run", "must start with a letter"),
        ("my.run", "contain only"),
    ],
)
def test_names_that_do_not_fit_are_refused_rather_than_cut(render, name, message):
    with pytest.raises(HelmError, match=message):
        render(name=name)


def test_the_longest_name_leaves_room_for_every_pod_of_64_gpus(render):
    job = render(name="a" * 44, gpus=64)["PyTorchJob"]
    assert len(f"{job['metadata']['name']}-worker-62") <= 63


def test_every_object_begins_with_the_runs_name_and_carries_its_labels(render):
    for item in render(name="r1").objects:
        assert item["metadata"]["name"] in ("r1", "r1-config", "r1-test-82f3e9c6")
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "r1"
        assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tspctl"
