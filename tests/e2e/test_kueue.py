"""Queues of Kueue: one that does not manage what is submitted is refused."""

from collections.abc import Iterator

import pytest

from tests.e2e.tspctl import Tspctl

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kueue")]

QUEUE = "team"
RUN = ("--dataset", "demo", "--method", "tac", "--queue", QUEUE)


@pytest.fixture
def queue(tspctl: Tspctl) -> Iterator[Tspctl]:
    """A user with a queue that has quota for one GPU."""
    version, namespace = "kueue.x-k8s.io/v1beta1", str(tspctl.kubectl.namespace)
    quotas = {"cpu": "64", "memory": "256Gi", "nvidia.com/gpu": "1"}
    flavor = {"name": namespace, "resources": [{"name": key, "nominalQuota": text} for key, text in quotas.items()]}
    of_namespace = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    groups = [{"coveredResources": list(quotas), "flavors": [flavor]}]
    tspctl.kubectl.apply(
        {"apiVersion": version, "kind": "ResourceFlavor", "metadata": {"name": namespace}},
        {"apiVersion": version, "kind": "ClusterQueue", "metadata": {"name": namespace},
         "spec": {"namespaceSelector": of_namespace, "resourceGroups": groups}},
        {"apiVersion": version, "kind": "LocalQueue", "metadata": {"name": QUEUE}, "spec": {"clusterQueue": namespace}},
    )  # fmt: skip
    yield tspctl
    tspctl.kubectl.run("delete", "pytorchjobs", "--all", "--wait=false")
    tspctl.kubectl.run("delete", "clusterqueue,resourceflavor", namespace, "--wait=false")


def test_a_queue_that_nobody_manages_is_refused_and_nothing_is_left(queue: Tspctl, trainer: None):
    """This Kueue knows nothing of TrainJobs."""
    refused = queue.try_run("submit", *RUN, "--name", "past", "--job-api", "trainjob")
    assert refused.returncode == 4, refused.stderr
    assert f"names the queue {QUEUE}, but nobody holds it back" in refused.stderr
    assert "trainer.kubeflow.org/trainjob" in refused.stderr
    assert queue.kubectl.items("trainjobs,trainingruntimes,configmaps", "-l", "app.kubernetes.io/part-of=tspctl") == []
    assert queue.run("list", "-o", "json").strip() == "[]"
