"""A configuration as chart values, and Helm as it is called with them."""

import json
import re

import pytest

from k8s.client import ClusterAddress
from k8s.helm import Chart, Helm, is_new_enough, program, shipped_chart
from k8s.node_plan import NodePlan
from k8s.values import config_for_pods, image_values, job_values, run_values, with_dotted
from tests.chart.conftest import HelmError
from tests.chart.conftest import render as render
from tsp.config.jobs import ExtractJob, GvfJob, ProbeJob, StandardizeJob
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import from_json
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError

STORE = {"uri": "s3://bucket/runs", "endpoint_url": "http://laptop:9000", "ca_bundle": "/home/me/ca.pem"}


def config(root="/data", **overrides):
    return resolve(
        load_dataset("thumos14"), "tac", name="my-run", store=STORE, root=root, overrides={"gpus": 8, **overrides}
    )


def test_pods_get_their_own_endpoint_and_no_path_of_this_machine():
    found = config_for_pods(config(), endpoint_url="http://minio.store:9000")
    assert (found.store.endpoint_url, found.store.ca_bundle) == ("http://minio.store:9000", None)
    assert config_for_pods(config()).store.endpoint_url == "http://laptop:9000"


@pytest.mark.parametrize(
    ("root", "cache_dir", "expected"),
    [("s3://videos", None, "/cache/videos"), ("s3://videos", "/fast", "/fast"), ("/data", None, None)],
)
def test_videos_from_s3_are_cached_where_pods_can_write(root, cache_dir, expected):
    assert config_for_pods(config(root, **{"data.cache_dir": cache_dir})).data.cache_dir == expected


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_only_shards_of_several_take_their_number_from_their_index(shards):
    job = (
        GvfJob(
            store=StoreConfig(uri="s3://bucket/runs"),
            metadata_csv="a.csv",
            backbone="tiny",
            checkpoint="a.pth",
            shard=None,
        )
        if False
        else ProbeJob(videos="/data/videos")
    )
    request = json.loads(job_values(job, shards=shards, image=None, queue=None)["job"]["request"])
    assert request.get("shards", 1) == shards


def test_a_run_is_sent_whole_and_with_its_plan():
    plan = NodePlan(downscale=2, memory_values=("16384",), explanation=("factor 2", "why"))
    values = run_values(config(), plan, image="registry:5000/tsp:v1", queue="team")
    assert from_json(values["config"]) == config()
    assert (values["gpus"], values["queue"], values["store"]) == (8, "team", {"uri": "s3://bucket/runs"})
    assert values["plan"] == {"memoryValues": ["16384"], "note": "factor 2; why"}
    assert values["image"] == {"repository": "registry:5000/tsp", "tag": "v1", "digest": ""}


def test_before_the_nodes_are_known_there_is_no_plan():
    values = run_values(config(), None, image=None, queue=None)
    assert {"plan", "image", "queue"} & set(values) == set()


@pytest.mark.parametrize(
    ("reference", "repository", "tag", "digest"),
    [
        ("tspctl", "tspctl", "", ""),
        ("tspctl:1", "tspctl", "1", ""),
        ("registry:5000/tsp", "registry:5000/tsp", "", ""),
        ("registry:5000/a/tsp:v1", "registry:5000/a/tsp", "v1", ""),
        ("registry/tsp@sha256:" + "ab" * 32, "registry/tsp", "", "sha256:" + "ab" * 32),
        ("registry:5000/tsp:v1@sha256:" + "ab" * 32, "registry:5000/tsp", "v1", "sha256:" + "ab" * 32),
    ],
)
def test_an_image_is_taken_apart_at_the_right_colon(reference, repository, tag, digest):
    assert image_values(reference) == {"repository": repository, "tag": tag, "digest": digest}


def test_a_job_carries_its_request_and_shares_it_among_shards():
    job = ExtractJob(checkpoint="c", videos="v", metadata="m", out="s3://b/o", store=StoreConfig(uri="s3://b/r"))
    values = job_values(job, shards=4, image=None, queue=None)
    request = json.loads(values["job"]["request"])
    assert (request["shards"], request["shard"], values["job"]["shards"], values["job"]["gpu"]) == (4, None, 4, True)
    assert values["store"] == {"uri": "s3://b/r"}
    assert "data" not in values


EXTRACTION = {"checkpoint": "c", "videos": "v", "metadata": "m"}


@pytest.mark.parametrize(
    ("job", "writable"),
    [
        (ProbeJob(videos="/data/v", out="/data/m.csv"), True),
        (ProbeJob(videos="/data/v"), False),
        (StandardizeJob(source="/data/raw", dest="/data/v"), True),
        (StandardizeJob(source="/data/raw", dest="s3://b/v"), False),
        (GvfJob(**EXTRACTION, out="/data/o.h5"), True),
        (GvfJob(**EXTRACTION, out="s3://b/o.h5", cache_dir="/cache"), False),
    ],
)
def test_a_job_that_writes_beside_the_data_mounts_it_writable(job, writable):
    values = job_values(job, shards=1, image=None, queue=None)
    assert values.get("data") == ({"readOnly": False} if writable else None)


def test_dotted_values_of_the_settings_win_and_leave_the_others_alone():
    values = {"shm": {"sizeLimit": "8Gi"}, "gpus": 2}
    assert with_dotted(values, {"shm.sizeLimit": "16Gi", "data.claim": "v"}) == {
        "shm": {"sizeLimit": "16Gi"},
        "gpus": 2,
        "data": {"claim": "v"},
    }
    assert values["shm"] == {"sizeLimit": "8Gi"}


WHERE = ClusterAddress(context="prod", kubeconfig="/k")
PLACE = ["--namespace", "video", "--kube-context", "prod", "--kubeconfig", "/k"]


IMAGES = {
    True: ["tspctl", "a/b:1", "registry:5000/team/tsp:v1", "localhost/tsp:1", "REG/x:1",
           "[::1]:5000/a__b/c-d.e:Tag_1.0-x"],
    False: ["a b:c", "reg/UPPER:1", "reg/x:", "reg/x:a b", "reg/x@", "x@sha256:abc", "/x", "reg//x", "x:" + "a" * 129,
            "https://reg/x:1", "-x", "reg/x:-1", "x@md5:" + "0" * 64],
}  # fmt: skip


@pytest.mark.parametrize(("reference", "is_image"), [(text, good) for good, texts in IMAGES.items() for text in texts])
def test_an_image_that_no_node_can_pull_is_refused_by_tspctl_and_the_chart(reference, is_image, render):
    if is_image:
        rendered = render(image=image_values(reference))
        assert rendered.container["image"] == (
            reference if ":" in reference.rpartition("/")[2] else f"{reference}:0.2.0"
        )
        return
    with pytest.raises(ConfigError, match=f"--image {re.escape(repr(reference))} is not an image"):
        image_values(reference)
    name, _, digest = reference.partition("@")
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    if not reference.endswith((":", "@")):
        with pytest.raises(HelmError, match="image"):
            render(image={"repository": repository, "tag": tag, "digest": digest})


def test_a_release_is_installed_by_one_call_with_values_on_standard_input(fake_helm):
    chart = Chart(reference="/chart", value_files=("a.yaml", "b.yaml"), assignments=("gpus=2",))
    Helm(WHERE, "video").install("r", chart, {"gpus": 1}, labels={"a": "b", "c/d": "e"})
    given = ["--values", "-", "--values", "a.yaml", "--values", "b.yaml", "--set", "gpus=2"]
    (call,) = fake_helm.calls
    assert call["arguments"] == ["install", "r", "/chart", *given, "--output", "json", "--labels", "a=b,c/d=e", *PLACE]
    assert call["text"] == '{"gpus": 1}'


def test_helm_goes_where_it_is_told_whatever_its_own_variables_say(fake_helm, monkeypatch):
    for name in (
        "HELM_KUBECONTEXT",
        "HELM_KUBEAPISERVER",
        "HELM_KUBETOKEN",
        "HELM_NAMESPACE",
        "HELM_DRIVER",
        "HELM_DEBUG",
    ):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("HELM_CACHE_HOME", "/cache")
    Helm(ClusterAddress(), "video").uninstall("r")
    (call,) = fake_helm.calls
    assert call["arguments"] == ["uninstall", "r", "--namespace", "video"]
    assert call["helm"] == {"HELM_CACHE_HOME": "/cache"}


def test_uninstalling_says_whether_there_was_anything(fake_helm):
    helm = Helm(WHERE, "video")
    fake_helm.has_release(False)
    assert helm.uninstall("r") is False
    fake_helm.has_release()
    assert helm.uninstall("r") is True
    assert fake_helm.calls[-1]["arguments"] == ["uninstall", "r", *PLACE]


def test_without_helm_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"helm is not on PATH.*install"):
        program()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v3.22.0", True),
        ("v3.14.0+gabc", True),
        ("v3.13.9", False),
        ("v3.9.4", False),
        ("v4.0.0", True),
        ("v2.17", False),
        ("dev", True),
    ],
)
def test_an_old_helm_is_known_by_its_version(version, expected):
    assert is_new_enough(version) is expected


def test_the_chart_ships_with_the_program():
    assert shipped_chart().endswith("charts/tsp")
