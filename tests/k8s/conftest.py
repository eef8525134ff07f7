"""A small API server, and the client that talks to it."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from cli.backends.cluster.backend import ClusterBackend
from cli.options.settings import Settings
from cli.stores import Stores
from k8s.client import Cluster, ClusterAddress
from k8s.releases import Releases
from tests.chart.conftest import helm as helm
from tests.cli.conftest import home as home
from tests.cli.conftest import tspctl as tspctl
from tests.k8s.fake_api import FakeApi
from tests.k8s.serving import JOBS
from tsp.config.recipes import load_dataset, resolve


@pytest.fixture
def kubectl():
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not on PATH")
    return found


@pytest.fixture
def api():
    server = FakeApi()
    yield server
    server.close()


@pytest.fixture
def cluster(api, tmp_path, monkeypatch):
    monkeypatch.setattr("k8s.client._RETRY_AFTER_SEC", (0.0, 0.01, 0.01))
    path = tmp_path / "kubeconfig"
    path.write_text(api.kubeconfig())
    return Cluster(ClusterAddress(kubeconfig=str(path)))


FAKE_HELM = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
calls = folder / "calls.json"
done = json.loads(calls.read_text()) if calls.exists() else []
text = sys.stdin.read() if "-" in sys.argv else None
helm = {{key: value for key, value in os.environ.items() if key.startswith("HELM_")}}
done.append({{"arguments": sys.argv[1:], "text": text, "helm": helm}})
calls.write_text(json.dumps(done))
answers = json.loads((folder / "answers.json").read_text())
answer = answers.get(sys.argv[1], {{}})
sys.stdout.write(answer.get("out", ""))
sys.stderr.write(answer.get("err", ""))
sys.exit(answer.get("code", 0))
"""


class FakeHelm:
    """A program called helm that notes how it was called; ``answers`` maps its verbs to out, err and code."""

    def __init__(self, folder):
        self.folder = folder
        self.has_release(False)
        program = folder / "helm"
        program.write_text(FAKE_HELM.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)

    def answer(self, **answers):
        path = self.folder / "answers.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **answers}))

    def has_release(self, yes=True):
        missing = {"err": "Error: release: not found\n", "code": 1}
        self.answer(status={"out": "{}"} if yes else missing, uninstall={} if yes else missing)

    @property
    def calls(self):
        path = self.folder / "calls.json"
        return json.loads(path.read_text()) if path.exists() else []


@pytest.fixture
def releases(cluster):
    return Releases(cluster)


@pytest.fixture
def fake_helm(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("helm")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return FakeHelm(folder)


@pytest.fixture
def real_helm(helm, monkeypatch):
    """A real Helm, first on PATH."""
    monkeypatch.setenv("PATH", str(Path(helm).parent), prepend=os.pathsep)
    return helm


@pytest.fixture
def config(tmp_path):
    store = {"uri": str(tmp_path / "store")}
    overrides = {"gpus": 4}
    return resolve(load_dataset("thumos14"), "tsp", name="my-run", store=store, root="/data", overrides=overrides)


@pytest.fixture
def backend(cluster, monkeypatch):
    monkeypatch.setattr("k8s.runs._POLL_SEC", 0.01)
    monkeypatch.setattr("cli.backends.cluster.lifecycle._GONE_TIMEOUT_SEC", 5.0)
    return ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig), Stores())


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


@pytest.fixture
def stub_helm(tmp_path_factory, monkeypatch):
    """A Helm that keeps releases as the real one does, in a tenth of its time."""
    folder = tmp_path_factory.mktemp("stub")
    program = folder / "helm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{Path(__file__).with_name("helm_stub.py")}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return program
