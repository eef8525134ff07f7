"""Pods go, containers die, servers restart, as they do on real clusters: the run ends well all the same."""

import json
import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import Object, wait_for
from tests.e2e.places import Cluster
from tests.e2e.tspctl import Tspctl

pytestmark = pytest.mark.e2e

EPOCHS = 5
RUN = "long"


def submit(tspctl: Tspctl) -> None:
    """A run of two ranks, returned from once its first epoch is in the store."""
    tspctl.run(
        "submit", "--dataset", "demo", "--method", "tac", "--gpus", "2", "--name", RUN, "--epochs", str(EPOCHS),
        "--clips-per-segment", "4", "--set", "state_every_sec=2",
    )  # fmt: skip
    wait_for(
        lambda: "epoch_0.json" in tspctl.keys(RUN),
        timeout_sec=240,
        what="first epoch",
        describe=lambda: what_happened(tspctl.kubectl),
    )


def assert_ends_well(tspctl: Tspctl) -> None:
    """It succeeds, and nothing is missing, doubled or left out of order."""
    done = tspctl.try_run("wait", RUN, "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(tspctl.kubectl)}"
    assert tspctl.epochs_in_results(RUN) == list(range(EPOCHS))
    assert {f"epoch_{epoch}.pth" for epoch in range(EPOCHS)} <= tspctl.keys(RUN)


def assert_still_training(tspctl: Tspctl) -> None:
    """A disturbance that comes after the end would prove nothing."""
    assert f"epoch_{EPOCHS - 1}.json" not in tspctl.keys(RUN), "the run was too quick to be disturbed"


def attempts(tspctl: Tspctl) -> int:
    return int(tspctl.stored(RUN, "progress.json")["attempt"])


def delete_a_worker(cluster: Cluster, tspctl: Tspctl) -> None:
    tspctl.kubectl.run("delete", "pod", f"{RUN}-worker-0", "--wait=false")


def evict_the_master(cluster: Cluster, tspctl: Tspctl) -> None:
    name, namespace = f"{RUN}-master-0", tspctl.kubectl.namespace
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    tspctl.kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def kill_the_masters_container(cluster: Cluster, tspctl: Tspctl) -> None:
    if not cluster.ours:
        pytest.skip("a container of somebody else's node cannot be killed from here")
    pod = tspctl.kubectl.get("pod", f"{RUN}-master-0")
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    cluster.control("kill-container", container)


@pytest.mark.parametrize("disturb", [delete_a_worker, evict_the_master, kill_the_masters_container])
def test_a_run_that_loses_a_rank_goes_on_from_its_state(
    cluster: Cluster, tspctl: Tspctl, disturb: Callable[[Cluster, Tspctl], None]
):
    submit(tspctl)
    assert_still_training(tspctl)
    disturb(cluster, tspctl)
    assert_ends_well(tspctl)
    assert attempts(tspctl) > 1, "the run was not disturbed at all"


def test_a_run_does_not_notice_a_restart_of_the_api_server(cluster: Cluster, tspctl: Tspctl):
    if not cluster.ours:
        pytest.skip("only the API server of a cluster of ours may be restarted")
    submit(tspctl)
    following = tspctl.start("logs", "-f", RUN)
    assert_still_training(tspctl)
    cluster.control("restart", "apiserver")
    wait_for(lambda: tspctl.kubectl.try_run("get", "--raw", "/readyz").returncode == 0, timeout_sec=60, what="API")
    assert_ends_well(tspctl)
    assert attempts(tspctl) == 1
    shown, said = following.communicate(timeout=120)
    assert following.returncode == 0, said
    # following survived it too: no line lost, none doubled
    stored = tspctl.stored_log(RUN, ranks=range(2))
    lines = shown.splitlines()
    assert [line for line in stored if line not in lines] == []
    assert [line for line in stored if lines.count(line) > stored.count(line)] == []


def test_a_run_waits_for_an_s3_server_that_restarts(cluster: Cluster, tspctl: Tspctl):
    submit(tspctl)
    assert_still_training(tspctl)
    tspctl.s3.stop()
    time.sleep(8)  # longer than a save takes to come around
    tspctl.s3.start()
    assert_ends_well(tspctl)


def test_suspend_gives_the_gpus_back_and_resume_goes_on(cluster: Cluster, tspctl: Tspctl):
    submit(tspctl)
    assert_still_training(tspctl)
    tspctl.run("suspend", RUN)
    assert pods(tspctl) == []
    assert tspctl.status(RUN)["state"] == "suspended"
    tspctl.run("resume", RUN)
    assert_ends_well(tspctl)
    assert attempts(tspctl) == 2


def test_cancel_saves_the_state_first(cluster: Cluster, tspctl: Tspctl):
    submit(tspctl)
    assert_still_training(tspctl)
    tspctl.run("cancel", RUN)
    assert tspctl.try_run("wait", RUN).returncode == 103
    assert "state/latest.json" in tspctl.keys(RUN)
    assert pods(tspctl) == []


def pods(tspctl: Tspctl) -> list[Object]:
    return tspctl.kubectl.items("pods", "-l", f"training.kubeflow.org/job-name={RUN}")
