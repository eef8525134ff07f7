"""All pods of a run or none, by a scheduler that is made for it: ``make e2e-all`` alone builds that."""

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import PATIENCE_SEC, wait_for
from tests.e2e.places import BUILD_TIMEOUT_SEC, Cluster, run_script
from tests.e2e.test_cluster_works import pod_spec
from tests.e2e.test_reasons import set_arguments
from tests.e2e.tspctl import Tspctl

pytestmark = [pytest.mark.e2e, pytest.mark.e2e_all, pytest.mark.timeout(BUILD_TIMEOUT_SEC)]

SCHEDULER = "scheduler-plugins-scheduler"
RUN = ("--dataset", "demo", "--method", "tac", "--gpus", "2", "--gang", "coscheduling")
SMALL = ("--epochs", "1", "--clips-per-segment", "1")


@pytest.fixture(scope="module")
def coscheduling(cluster: Cluster) -> Iterator[None]:
    """The scheduler beside the cluster's own, and an operator that makes PodGroups for it."""
    if not cluster.ours:
        pytest.skip("the schedulers of somebody else's cluster are theirs")
    run_script("build.sh", "gang-scheduler", timeout_sec=BUILD_TIMEOUT_SEC)
    cluster.control("restart", "gang-scheduler")
    operator = cluster.kubectl.within("kubeflow").get("deployment", "training-operator")
    args = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    set_arguments(cluster, [*args, f"--gang-scheduler-name={SCHEDULER}"])
    yield
    set_arguments(cluster, args)


@pytest.mark.usefixtures("coscheduling")
def test_a_run_with_a_gap_holds_no_gpu_and_starts_when_there_is_room_for_all(
    cluster: Cluster, tspctl: Tspctl, gpus: int
):
    kubectl = tspctl.kubectl
    spec = pod_spec(cluster.busybox, "sleep 3600", gpus=gpus - 1)
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"}, "spec": spec})
    kubectl.run("wait", "pod", "other", "--for=condition=PodScheduled", "--timeout=290s", timeout_sec=PATIENCE_SEC)
    tspctl.run("submit", *RUN, *SMALL, "--name", "whole")

    def waits() -> str | None:
        reason = tspctl.status("whole")["reason"] or ""
        return reason if "cannot be scheduled" in reason else None

    reason = wait_for(waits, what="reason", describe=lambda: what_happened(kubectl))
    assert "hold GPUs" not in reason
    pods = kubectl.items("pods", "-l", "training.kubeflow.org/job-name=whole")
    assert [pod["spec"].get("nodeName") for pod in pods] == [None, None]
    (group,) = kubectl.items("podgroups.scheduling.x-k8s.io")
    assert group["spec"]["minMember"] == 2

    kubectl.run("delete", "pod", "other", "--grace-period=0", "--force")
    done = tspctl.try_run("wait", "whole", "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(kubectl)}"
