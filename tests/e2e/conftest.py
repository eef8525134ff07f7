"""Fixtures of the end-to-end tests: a cluster, GPUs on its node, an S3 server, the image, a namespace for each test."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.kubectl import Kubectl
from tests.e2e.nodes import remove_gpus, set_gpus
from tests.e2e.places import BUILD_TIMEOUT_SEC, Cluster, a_cluster, ending_the_session, run_script
from tests.e2e.researcher import may_list_nodes, may_not_list_nodes, researcher
from tests.e2e.s3 import S3Server
from tests.e2e.tspctl import DATA_PREFIX, Tspctl, clean_environment

REPOSITORY = Path(__file__).resolve().parents[2]
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
    with contextlib.ExitStack() as stack:
        with ending_the_session():
            found = stack.enter_context(a_cluster())
        yield found


@pytest.fixture(scope="session")
def trainer(cluster: Cluster) -> None:
    """Kubeflow Trainer v2; a cluster of somebody else need not have it."""
    _require_kind(cluster, "trainjobs.trainer.kubeflow.org")


@pytest.fixture(scope="session")
def kueue(cluster: Cluster) -> None:
    """Kueue; a cluster of somebody else need not have it."""
    _require_kind(cluster, "clusterqueues.kueue.x-k8s.io")


def _require_kind(cluster: Cluster, name: str) -> None:
    if cluster.kubectl.try_run("get", "crd", name).returncode == 0:
        return
    assert not cluster.ours, f"our own cluster has no {name}"
    pytest.skip(f"the cluster has no {name}")


@pytest.fixture(scope="session")
def gpus(cluster: Cluster) -> Iterator[int]:
    """Eight GPUs of 80 GB on the node; a cluster of somebody else that has GPUs keeps its own."""
    present = int(cluster.kubectl.get("node", cluster.node)["status"]["allocatable"].get("nvidia.com/gpu", "0"))
    if present and not cluster.ours:
        yield present
        return
    if not cluster.fake_gpus:
        pytest.skip("the node has no GPUs; set TSP_E2E_FAKE_GPUS=1 to let the tests advertise some")
    set_gpus(cluster.kubectl, cluster.node, NUM_GPUS, GPU_MEMORY_MIB)
    yield NUM_GPUS
    if not cluster.ours:  # ours ends with the tests, or stays for the next ones (TSP_E2E_KEEP)
        remove_gpus(cluster.kubectl, cluster.node)


@pytest.fixture(scope="session")
def s3(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on an address that pods and tests both reach."""
    server = S3Server(cluster.s3_host, tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def image(cluster: Cluster) -> str:
    """The project's image, built from image/Dockerfile and on the node; or the one that TSP_E2E_IMAGE names."""
    name = os.environ.get("TSP_E2E_IMAGE")
    if not cluster.ours:
        return name or pytest.skip("set TSP_E2E_IMAGE to the image that the nodes have or can pull")
    with ending_the_session():
        name = name or run_script("build.sh", "project-image", timeout_sec=BUILD_TIMEOUT_SEC).strip()
        cluster.control("load", name, timeout_sec=BUILD_TIMEOUT_SEC)
    return name


@pytest.fixture(scope="session")
def helm() -> str:
    """Path of a real helm, built where there is none."""
    with ending_the_session():
        return run_script(REPOSITORY / "scripts" / "go_tool.sh", "helm", timeout_sec=BUILD_TIMEOUT_SEC).strip()


@pytest.fixture(scope="session")
def demo_data(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo data set in S3, drawn as a user draws it; returns its URI."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    tspctl = str(Path(sys.executable).with_name("tspctl"))
    command = [tspctl, "data", "demo", str(folder), "--backend", "local", "--train-videos", "12", "--valid-videos", "6"]
    subprocess.run(command, env=clean_environment(folder.parent), stdout=subprocess.DEVNULL, timeout=300, check=True)
    client = s3.client()
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), s3.bucket, f"{DATA_PREFIX}/demo/{path.relative_to(folder)}")
    return f"s3://{s3.bucket}/{DATA_PREFIX}/demo"


@pytest.fixture
def kubectl(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own, which enforces the restricted Pod Security Standard."""
    with a_namespace(cluster, request.node.name) as inside:
        yield inside
        if request.node.stash.get(FAILED, True):
            print(what_happened(inside))


@pytest.fixture
def tspctl(kubectl: Kubectl, user: Callable[[Kubectl, Path], Tspctl], tmp_path: Path) -> Tspctl:
    """A user in the test's namespace."""
    return user(kubectl, tmp_path)


@pytest.fixture(scope="session")
def user(s3: S3Server, image: str, helm: str, gpus: int, demo_data: str) -> Callable[[Kubectl, Path], Tspctl]:
    """Makes users: with the demo data set, GPUs, the image and a store, in a namespace and a folder.

    They have the rights of k8s/role.yaml in that namespace and may list nodes, nothing else.
    """

    def make(kubectl: Kubectl, folder: Path) -> Tspctl:
        kubeconfig = researcher(kubectl, folder)
        may_list_nodes(kubectl)
        return Tspctl(kubectl, s3, image, folder, helm, REPOSITORY / "charts" / "tsp", kubeconfig)

    return make


@contextlib.contextmanager
def a_namespace(cluster: Cluster, name: str) -> Iterator[Kubectl]:
    """A namespace that enforces the restricted standard, deleted at the end."""
    short = re.sub(r"[^a-z0-9]+", "-", name.removeprefix("test_").lower())[:30].strip("-")
    namespace = f"e2e-{short}-{secrets.token_hex(2)}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    inside = cluster.kubectl.within(namespace)
    try:
        yield inside
    finally:
        may_not_list_nodes(inside)
        cluster.kubectl.run("delete", "namespace", namespace, "--wait=false")


def what_happened(kubectl: Kubectl) -> str:
    """Pods, events and logs of a namespace, for the report of a failed test."""
    pods = kubectl.try_run("get", "pytorchjobs,jobs,pods", "-o", "wide").stdout
    events = kubectl.try_run("get", "events", "--sort-by=.lastTimestamp").stdout
    names = kubectl.try_run("get", "pods", "-o", "name").stdout.split()
    logs = [f"--- {name}\n{kubectl.try_run('logs', name, '--all-containers', '--tail=40').stdout}" for name in names]
    return "\n".join([pods, events, *logs])
