"""Fixtures of the end-to-end tests: a cluster, GPUs on its node, an S3 server, the image, a namespace for each test."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kubectl import Kubectl
from tests.e2e.nodes import remove_gpus, set_gpus
from tests.e2e.places import Cluster, a_cluster
from tests.e2e.s3 import S3Server

NUM_GPUS = 8
GPU_MEMORY_MIB = 81559
TEST_TIMEOUT_SEC = 600
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test may take ten minutes; bringing the cluster up is not counted, it has limits of its own."""
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_SEC, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep whether the test itself failed, for the fixture that tears its namespace down."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real cluster with the training operator (see ``places``)."""
    with a_cluster() as found:
        yield found


@pytest.fixture(scope="session")
def gpus(cluster: Cluster) -> Iterator[int]:
    """Eight GPUs of 80 GB on the node; a cluster of somebody else that has GPUs keeps its own."""
    present = int(cluster.kubectl.get("node", cluster.node)["status"]["allocatable"].get("nvidia.com/gpu", "0"))
    if present and not cluster.ours:
        yield present
        return
    if not cluster.fake_gpus:
        pytest.skip("the node has no GPUs; set TSPCTL_E2E_FAKE_GPUS=1 to let the tests advertise some")
    set_gpus(cluster.kubectl, cluster.node, NUM_GPUS, GPU_MEMORY_MIB)
    yield NUM_GPUS
    remove_gpus(cluster.kubectl, cluster.node)


@pytest.fixture(scope="session")
def s3(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on an address that pods and tests both reach."""
    server = S3Server(cluster.s3_host, tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def kubectl(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own, which enforces the restricted Pod Security Standard."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:30].strip("-")
    namespace = f"e2e-{name}-{secrets.token_hex(2)}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    inside = cluster.kubectl.within(namespace)
    yield inside
    if request.node.stash.get(FAILED, True):
        print(what_happened(inside))
    cluster.kubectl.run("delete", "namespace", namespace, "--wait=false")


def what_happened(kubectl: Kubectl) -> str:
    """Pods, events and logs of a namespace, for the report of a failed test."""
    pods = kubectl.try_run("get", "pytorchjobs,jobs,pods", "-o", "wide").stdout
    events = kubectl.try_run("get", "events", "--sort-by=.lastTimestamp").stdout
    names = kubectl.try_run("get", "pods", "-o", "name").stdout.split()
    logs = [f"--- {name}\n{kubectl.try_run('logs', name, '--all-containers', '--tail=40').stdout}" for name in names]
    return "\n".join([pods, events, *logs])


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[2]
