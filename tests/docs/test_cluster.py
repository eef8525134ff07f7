"""Console blocks for a cluster: typed as they stand, with a real Helm, against a small API server that keeps objects.

The same lines run on a real cluster in tests/e2e; here every option reaches an object, and costs seconds.
"""

from __future__ import annotations

import contextlib
import subprocess

import boto3
import pytest
import yaml

from tests.chart.conftest import helm as helm
from tests.cli.backends.cluster.test_one_install import api as api
from tests.cli.conftest import data_root as data_root
from tests.cli.conftest import home as home
from tests.cli.conftest import tspctl as tspctl
from tests.docs.miniature import copy_published, copy_videos
from tests.docs.pages import CLUSTER, ROOT, Block, Line, blocks
from tests.k8s.conftest import cluster as cluster
from tests.k8s.conftest import real_helm as real_helm
from tests.k8s.objects import condition
from tests.k8s.serving import JOBS, TRAIN_JOBS, gpu_node
from tests.stores import epoch_record
from tsp.config.run import from_json
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store

CLUSTER_BLOCKS = [block for block in blocks() if block.mark == CLUSTER]
JUDGED_ONLY = ("--dry-run=server",)
"""For TrainJobs, of whose List Helm asks this server for more than it knows; tests/e2e submits them."""
QUEUE = "kueue.x-k8s.io/queue-name"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SETTINGS = """
store = "s3://runs/store"
endpoint_url = "{endpoint}"
region = "us-east-1"
image = "registry.example/team/tspctl:0.2.0"
kubeconfig = "{kubeconfig}"
[chart_values]
"store.existingSecret" = "s3-login"
"""


@pytest.fixture
def site(api, cluster, real_helm, home, data_root, s3_servers, monkeypatch):
    """A cluster with GPUs, a queue and a Secret, whose runs succeed at once; a bucket; settings that name them."""
    server = s3_servers("rclone")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/gpu.compute.major": "8"}
    nodes = [gpu_node("a", "40960", gpus="8", **labels)]
    nodes[0]["status"]["allocatable"] |= {"cpu": "96", "memory": "1Ti"}
    api.objects |= {
        "/api/v1/nodes": nodes,
        "/api/v1/namespaces/video/secrets/s3-login": {"metadata": {}, "data": dict.fromkeys(KEYS, "a2V5")},
        "/apis/jobset.x-k8s.io/v1alpha2": {"resources": []},
        "/apis/kueue.x-k8s.io/v1beta2/namespaces/video/localqueues/team-a": {"metadata": {}},
        "/apis/kueue.x-k8s.io/v1beta2/workloadpriorityclasses/high": {"metadata": {}},
    }
    client = boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1")
    with contextlib.suppress(client.exceptions.BucketAlreadyExists):
        client.create_bucket(Bucket="videos")
    for subset in ("train", "valid"):
        (data_root / subset / "a.mp4").touch()
    copy_published(data_root, home / "thumos14", gvf="r2plus1d_34-max_gvf.h5")
    copy_videos(data_root, home / "thumos14")
    for path in (home / "thumos14").rglob("*.*"):
        client.put_object(Bucket="videos", Key=str(path.relative_to(home)), Body=path.read_bytes())
    monkeypatch.setattr("k8s.runs._POLL_SEC", 0.01)
    monkeypatch.setattr("cli.runs.outcome.POLL_SEC", 0.01)
    monkeypatch.setattr(api, "_find", with_runs_that_succeed(api, home / "epoch.pth"))
    (home / "tspctl.toml").write_text(
        SETTINGS.format(endpoint=server.endpoint_url, kubeconfig=cluster.where.kubeconfig)
    )
    (home / "charts").symlink_to(ROOT / "charts")
    (home / "gvf.json").write_text('{"kind": "gvf"}')
    return api


def with_runs_that_succeed(api, checkpoint):
    """The API server's answers; a PyTorchJob that is created has a checkpoint in its store, and has succeeded."""
    find = api._find

    def answer(method, path, query, body):
        code, found = find(method, path, query, body)
        is_new = method in ("POST", "PATCH") and code == 201 and "dryRun" not in query
        if QUEUE in (found.get("metadata", {}).get("labels") or {}):
            found["spec"]["runPolicy"]["suspend"] = True  # as Kueue's webhook does
        elif is_new and found.get("kind") == "PyTorchJob":
            found["status"] = {"conditions": [condition("Created"), condition("Succeeded")]}
            (config_map,) = [
                item
                for key, item in api.objects.items()
                if "/configmaps/" in key and item["metadata"]["labels"].items() >= labels_of(found).items()
            ]
            store_an_epoch(from_json(config_map["data"]["config.json"]), checkpoint)
        return code, found

    return answer


def labels_of(found):
    return {key: found["metadata"]["labels"][key] for key in ("app.kubernetes.io/instance",)}


def store_an_epoch(config, checkpoint):
    run = StoredRun(open_store(config.store), config.name)
    run.create(config, None)
    checkpoint.write_bytes(b"weights")
    run.publish_epoch(checkpoint, epoch_record(0, checkpoint))


@pytest.mark.parametrize("block", CLUSTER_BLOCKS, ids=str)
def test_a_block_for_a_cluster_does_what_it_says(block: Block, site, tspctl, home, helm) -> None:
    names: list[str] = []
    for line in block.lines:
        program, *words = [names[-1] if word == "RUN" else word for word in line.words]
        if program == "tspctl":
            done = tspctl(*words, *JUDGED_ONLY if "trainjob" in words else ())
            assert done.code == 0, f"{line.text}\n{done.out}\n{done.err}"
            is_sent = words[0] == "submit" and not {"--dry-run", "trainjob"} & set(words)
            names += done.out.split() if is_sent else []
        elif program == "helm":
            renders(helm, line)
        else:
            assert (program, "--dry-run" in words) == ("kubectl", False), "tests/e2e runs what only changes a cluster"
    objects = [path for path in site.objects if path.startswith((f"{JOBS}/", f"{TRAIN_JOBS}/"))]
    assert sorted(path.rsplit("/", 1)[-1] for path in objects) == sorted(names)


def renders(helm: str, line: Line) -> None:
    """Helm alone installs nothing here; what it would install is whole."""
    verb, name, *words = line.words[1:]
    assert verb == "install"
    done = subprocess.run([helm, "template", name, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line.text}\n{done.stderr}"
    kinds = {item["kind"] for item in yaml.safe_load_all(done.stdout) if item}
    assert kinds & {"PyTorchJob", "Job"}
