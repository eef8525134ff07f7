"""Secrets planted wherever one can be given: none is shown, stored or sent. With a real Helm and a small API server."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from tests.cli.backends.cluster.test_one_install import SUBMIT
from tests.cli.backends.cluster.test_one_install import api as api
from tests.cli.backends.cluster.test_one_install import tspctl as tspctl

WORD = "hunter2"


def planted(place):
    """A secret that says where it was planted."""
    return f"{WORD}{re.sub('[^a-z]', '', place.lower())}"


def address(place, scheme="https"):
    return f"{scheme}://me:{planted(place)}@host.example/x"


def signed(place):
    return f"https://host.example/x?X-Amz-Signature={planted(place)}"


OPTIONS = [
    *(
        (option, make(option))
        for option in ("--pretrained", "--resume", "--data", "--store")
        for make in (address, signed)
    ),
    ("--endpoint-url", address("--endpoint-url")),
    ("--image", address("--image")),
    ("--image", f"me:{planted('--image')}@registry.example/tspctl"),
    ("--set", f"model.pretrained={address('--set')}"),
    ("--set", f"data.cache_dir={address('--set')}"),
    ("--env", f"HTTPS_PROXY={address('--env', 'http')}"),
    ("--env", f"HF_TOKEN={planted('--env')}"),
    ("--chart-value", f"store.endpointUrl={address('--chart-value')}"),
    ("--chart-value", f"gpus=2,podAnnotations.proxy={address('--chart-value')}"),
    ("--chart-value", f"extraEnv[0].name=DB_PASSWORD,extraEnv[0].value={planted('--chart-value')}"),
]
VALUES_FILES = [
    {"extraEnv": [{"name": "http_proxy", "value": address("file", "http")}]},
    {"extraEnv": [{"name": "WANDB_API_KEY", "value": planted("file")}]},
    {"annotations": {"dataset": signed("file")}},
    {"pretrained": address("file")},  # not rendered where tspctl sends the whole configuration, but kept in the release
]
SETTINGS = {
    "store": address("store", "s3"), "endpoint_url": address("endpoint"), "endpoint_url_in_cluster": address("inside"),
    "data": address("data"), "datasets": {"thumos14": signed("datasets")}, "pretrained": signed("pretrained"),
    "models_url": address("models"), "image": address("image"), "chart": address("chart"),
    "set": {"model.pretrained": address("set")}, "chart_values": {"store.endpointUrl": address("values")},
}  # fmt: skip
VARIABLES = ["TSPCTL_STORE", "TSPCTL_PRETRAINED", "TSPCTL_ENDPOINT_URL", "TSPCTL_CHART", "AWS_ENDPOINT_URL_S3"]


@pytest.fixture
def is_refused(tspctl, api, tmp_path, monkeypatch):
    """Says that a submit, dry or not, is refused by what is planted, which is then nowhere but where it was planted."""

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def check(*arguments, sources=()):
        for more in (("--dry-run",), ()):
            ended = tspctl(*SUBMIT, *arguments, *more, "-v")
            assert ended.code in (2, 4, 5), ended.err
            assert WORD not in ended.out + ended.err, ended.err
        assert_nowhere(api, tmp_path, sources)

    return check


def assert_nowhere(api, folder, sources=()):
    stored = json.dumps({key: value for key, value in api.objects.items() if not callable(value)})
    releases = [
        gzip.decompress(base64.b64decode(base64.b64decode(item["data"]["release"]))).decode()
        for key, item in api.objects.items()
        if "/secrets/sh.helm" in key
    ]
    for text in (stored, *releases):
        assert WORD not in text
    for path in folder.rglob("*"):
        if path.is_file() and path not in sources:
            assert WORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(("option", "value"), OPTIONS)
def test_what_is_planted_in_an_option_is_refused_and_nowhere(is_refused, option, value):
    is_refused(option, value)


@pytest.mark.parametrize("values", VALUES_FILES, ids=lambda values: next(iter(values)))
def test_what_is_planted_in_a_values_file_is_refused_and_nowhere(is_refused, tmp_path, values):
    path = tmp_path / "values.yaml"
    path.write_text(json.dumps(values))
    is_refused("--chart-values", str(path), sources=[path])


@pytest.mark.parametrize("key", SETTINGS)
def test_what_is_planted_in_a_setting_is_refused_and_nowhere(is_refused, tmp_path, key):
    path = tmp_path / ".config/tspctl/config.toml"
    path.parent.mkdir(parents=True)
    value = SETTINGS[key]
    pairs = "" if isinstance(value, str) else ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())
    path.write_text(f"{key} = {json.dumps(value) if isinstance(value, str) else f'{{ {pairs} }}'}\n")
    own = tmp_path / "tspctl.toml"
    if key in own.read_text():
        # What the folder's file says would win.
        own.write_text(f'kubeconfig = "{tmp_path}/kubeconfig"\n' + ("" if key == "store" else 'store = "s3://b/r"\n'))
    is_refused(sources=[path])


@pytest.mark.parametrize("variable", VARIABLES)
def test_what_is_planted_in_a_variable_is_refused_and_nowhere(is_refused, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, address(variable))
    is_refused("--store", "s3://bucket/runs") if variable.startswith("AWS") else is_refused()


def test_what_is_planted_in_a_profile_or_a_data_set_file_is_refused_and_nowhere(is_refused, tmp_path, monkeypatch):
    profile = tmp_path / "aws"
    profile.write_text(f"[profile team]\nendpoint_url = {address('profile')}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "team")
    is_refused("--store", "s3://bucket/runs", sources=[profile])
    monkeypatch.delenv("AWS_PROFILE")
    dataset = tmp_path / "mine.yaml"
    table = {"csv": "a.csv", "videos": "v"}
    labels = {"action-label": "labels.json"}
    root = address("dataset", "s3")
    dataset.write_text(json.dumps({"name": "mine", "root": root, "labels": labels, "train": table, "valid": table}))
    is_refused("--dataset", str(dataset), "--data", address("root"), sources=[profile, dataset])


@pytest.fixture
def secretive(monkeypatch, tmp_path, cluster):
    """Secrets where they belong: in the environment, in the kubeconfig, in AWS's file. Returns: the files with them."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://me:{planted(name)}@127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, planted(name))
    path = Path(cluster.where.kubeconfig)
    raw = json.loads(path.read_text())
    raw["users"][0]["user"] = {"token": planted("token")}
    path.write_text(json.dumps(raw))
    credentials = tmp_path / ".aws/credentials"
    credentials.parent.mkdir()
    credentials.write_text(f"[default]\naws_secret_access_key = {planted('credentials')}\n")
    return [path, credentials]


def test_a_run_lives_and_ends_without_showing_a_secret_of_its_surroundings(tspctl, api, tmp_path, secretive):
    texts = []

    def run(*words, code=0):
        ended = tspctl(*words, "-v")
        assert ended.code == code, ended.err + ended.out
        texts.append(ended.out + ended.err)

    run(*SUBMIT, "--dry-run")
    run(*SUBMIT, "--env", "HTTPS_PROXY=http://proxy:3128", "-o", "json")
    api.objects["/api/v1/namespaces/video/pods"] = []
    job = api.objects["/apis/kubeflow.org/v1/namespaces/video/pytorchjobs/r1"]
    job["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
    job["status"] = {"conditions": [{"type": "Succeeded", "status": "True", "message": address("operator")}]}
    for command in (["list"], ["list", "-o", "json"], ["status", "r1"], ["status", "r1", "-o", "yaml"], ["wait", "r1"]):
        run(*command)
    run("logs", "r1")
    api.objects["/apis/jobset.x-k8s.io/v1alpha2"] = {"resources": []}
    run("doctor")
    assert WORD not in "".join(texts)
    status = job.pop("status")  # where the operator's message was planted
    assert_nowhere(api, tmp_path, secretive)
    job["status"] = status
    run("delete", "r1", "--yes", "--keep-store")
    assert WORD not in texts[-1]


@pytest.mark.parametrize(
    "proxy", ["http://me:{}@127.0.0.1:9", "http://me:{}@[bad", "me:{}@127.0.0.1:9", "ftp://me:{}@h"]
)
@pytest.mark.parametrize("words", [("doctor",), SUBMIT])
def test_a_proxy_that_fails_is_not_shown_with_its_password(tspctl, tmp_path, cluster, monkeypatch, proxy, words):
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(planted("proxy")))
    raw = json.loads(Path(cluster.where.kubeconfig).read_text())
    raw["clusters"][0]["cluster"]["server"] = "https://api.example:6443"
    Path(cluster.where.kubeconfig).write_text(json.dumps(raw))
    ended = tspctl(*words, "-v")
    assert ended.code in (1, 4), ended.err
    assert "unexpected error" not in ended.err
    assert WORD not in ended.out + ended.err


@pytest.mark.parametrize("proxy", ["http://me:{}@127.0.0.1:9", "me:{}@127.0.0.1:9"])
def test_the_kubeconfigs_own_proxy_is_not_shown_with_its_password(tspctl, cluster, proxy):
    raw = json.loads(Path(cluster.where.kubeconfig).read_text())
    given = {"server": "https://api.example:6443", "proxy-url": proxy.format(planted("proxyurl"))}
    raw["clusters"][0]["cluster"] = given
    Path(cluster.where.kubeconfig).write_text(json.dumps(raw))
    for words in (("list",), ("doctor",), SUBMIT):
        ended = tspctl(*words, "-v")
        assert (ended.code in (1, 4), WORD in ended.out + ended.err) == (True, False), ended.err
