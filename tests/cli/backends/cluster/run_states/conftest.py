"""A server that keeps what it is sent, a command line that talks to it, and a run that is installed there."""

import pytest

from tests.cli.backends.cluster.run_states.installed import install_run
from tests.k8s.serving import PODS
from tests.k8s.storing_api import StoringApi


@pytest.fixture
def api(monkeypatch):
    server = StoringApi()
    server.objects |= {"/api/v1/namespaces/video/events": [], "/api/v1/nodes": [], PODS: []}
    yield server
    server.close()


@pytest.fixture
def tspctl(tspctl, cluster, stub_helm, monkeypatch, tmp_path):
    monkeypatch.setattr("k8s.runs._POLL_SEC", 0.01)
    monkeypatch.setattr("cli.runs.outcome.POLL_SEC", 0.01)
    monkeypatch.setattr("cli.backends.cluster.lifecycle._GONE_TIMEOUT_SEC", 2.0)
    options = ("--kubeconfig", cluster.where.kubeconfig, "--store", f"file://{tmp_path}/store")
    return lambda *arguments: tspctl(*arguments, *options)


@pytest.fixture
def installed(api, tspctl, cluster, config, tmp_path):
    """A run as the chart installs it, with an operator that takes its pods away; returns its job."""
    return install_run(api, cluster, config, tmp_path)
