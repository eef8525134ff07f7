"""A small API server, and the client that talks to it."""

import pytest

from k8s.client import Cluster, Where
from tests.k8s.fake_api import FakeApi


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
    return Cluster(Where(kubeconfig=str(path)))
