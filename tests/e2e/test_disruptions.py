"""Pods go, containers die, servers restart, as they do on real clusters: one run goes through all of it and ends well.

The tests disturb the same run one after the other, as its life would; each waits until the run has got over it.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import a_namespace, what_happened
from tests.e2e.kubectl import PATIENCE_SEC, Kubectl, wait_for
from tests.e2e.long_run import LongRun
from tests.e2e.places import Cluster
from tests.e2e.tspctl import Tspctl

pytestmark = pytest.mark.e2e

EPOCHS = 32
"""More than the disturbances take; ``test_the_run_ends_well`` cannot pass if one of them comes after the end."""
RUN = "long"


class DisturbedRun(LongRun):
    """A run that the next disturbance must still find at work."""

    def wait_for_epochs(self, count: int) -> None:
        """Until that many are in the store."""
        assert count < self.num_epochs, "the run was too quick to be disturbed"
        super().wait_for_epochs(count)


@pytest.fixture(scope="module")
def long_run(
    cluster: Cluster, user: Callable[[Kubectl, Path], Tspctl], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LongRun]:
    with a_namespace(cluster, "disruptions") as kubectl:
        run = DisturbedRun(
            user(kubectl, tmp_path_factory.mktemp("user")), RUN, "--method", "tac",
            epochs=EPOCHS, pods_label="training.kubeflow.org/job-name",
        )  # fmt: skip
        yield run
        run.following.kill()


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


def test_status_shows_node_and_gpu_of_every_rank(cluster: Cluster, long_run: LongRun):
    status = long_run.tspctl.status(RUN)
    assert (status["state"], status["epochs"]) == ("running", EPOCHS)
    assert [(rank["rank"], rank["state"], rank["where"]) for rank in status["ranks"]] == [
        (0, "running", cluster.node), (1, "running", cluster.node),
    ]  # fmt: skip
    assert all("MiB" in rank["gpu"] for rank in status["ranks"])


def test_a_command_runs_beside_a_rank(long_run: LongRun):
    done = long_run.tspctl.try_run("exec", RUN, "--rank", "1", "--", "sh", "-c", "echo rank $RANK; exit 7")
    assert (done.stdout, done.returncode) == ("rank 1\n", 7), done.stderr


def test_logs_are_narrowed_by_rank_tail_and_age(long_run: LongRun):
    logs = long_run.tspctl.run("logs", RUN, "--rank", "1").splitlines()
    assert logs
    assert all(line.startswith("[rank 1] ") for line in logs)
    tail = long_run.tspctl.run("logs", RUN, "--tail", "1").splitlines()
    assert sorted(line.split("]")[0] for line in tail) == ["[rank 0", "[rank 1"]
    assert long_run.tspctl.run("logs", RUN, "--rank", "1", "--since", "2100-01-01") == ""


@pytest.mark.parametrize("disturb", [delete_a_worker, evict_the_master, kill_the_masters_container])
def test_a_run_that_loses_a_rank_goes_on_from_its_state(
    cluster: Cluster, long_run: LongRun, disturb: Callable[[Cluster, Tspctl], None]
):
    attempt, epochs = long_run.attempt(), long_run.epochs()
    disturb(cluster, long_run.tspctl)
    long_run.wait_for_epochs(epochs + 2)
    assert long_run.attempt() > attempt, "the run was not disturbed at all"
    before = long_run.tspctl.run("logs", RUN, "--previous").splitlines()
    assert before == long_run.tspctl.run("logs", RUN, "--attempt", str(long_run.attempt() - 1)).splitlines() != []


def test_a_run_does_not_notice_a_restart_of_the_api_server(cluster: Cluster, long_run: LongRun):
    if not cluster.ours:
        pytest.skip("only the API server of a cluster of ours may be restarted")
    attempt, epochs = long_run.attempt(), long_run.epochs()
    cluster.control("restart", "apiserver")
    ready = long_run.tspctl.kubectl.try_run
    wait_for(lambda: ready("get", "--raw", "/readyz").returncode == 0, what="API server")
    long_run.wait_for_epochs(epochs + 2)
    assert long_run.attempt() == attempt
    assert long_run.tspctl.status(RUN)["state"] == "running"


def test_a_run_waits_for_an_s3_server_that_restarts(long_run: LongRun):
    attempt, epochs = long_run.attempt(), long_run.epochs()
    long_run.tspctl.s3.stop()
    time.sleep(8)  # longer than a save takes to come around
    long_run.tspctl.s3.start()
    long_run.wait_for_epochs(epochs + 2)
    assert long_run.attempt() == attempt


def test_suspend_gives_the_gpus_back(long_run: LongRun):
    long_run.tspctl.run("suspend", RUN)
    assert long_run.pods() == []
    assert long_run.tspctl.status(RUN)["state"] == "suspended"


def test_following_went_through_all_of_it_without_losing_or_doubling_a_line(long_run: LongRun):
    shown, said = long_run.following.communicate(timeout=PATIENCE_SEC)
    assert long_run.following.returncode == 101, said  # suspended: not finished
    lines = shown.splitlines()
    assert [line for line, times in Counter(lines).items() if times > 1] == [], "lines that were doubled"
    stored: Counter[str] = Counter()
    assert long_run.attempt() > 3
    for attempt in range(1, long_run.attempt() + 1):
        for rank in range(2):
            log = long_run.tspctl.stored_log(RUN, ranks=[rank], attempt=attempt)
            assert log, f"rank {rank} of attempt {attempt} stored no line"
            stored += Counter(log)
    assert stored - Counter(line.partition(" ")[2] for line in lines) == Counter(), "lines that were lost"


def test_resume_goes_on(long_run: LongRun):
    attempt, epochs = long_run.attempt(), long_run.epochs()
    long_run.tspctl.run("resume", RUN)
    long_run.wait_for_epochs(epochs + 2)
    assert long_run.attempt() == attempt + 1


def test_cancel_saves_the_state_first_and_resume_goes_on_from_it(long_run: LongRun):
    tspctl, attempt = long_run.tspctl, long_run.attempt()
    tspctl.run("cancel", RUN)
    assert tspctl.try_run("wait", RUN).returncode == 103
    assert long_run.pods() == []
    saved = tspctl.stored(RUN, "state/latest.json")
    tspctl.run("resume", RUN)
    long_run.wait_for_epochs(long_run.epochs() + 1)
    assert long_run.attempt() == attempt + 1
    # the log goes to the store on its own time, perhaps after an epoch that the run had only to finish

    def stored_log() -> str:
        if f"logs/attempt-{attempt + 1}/rank-0.log" not in tspctl.keys(RUN):
            return ""
        return "\n".join(tspctl.stored_log(RUN, ranks=[0], attempt=attempt + 1))

    wait_for(lambda: f"epoch {saved['epoch']}" in stored_log(), what=f"epoch {saved['epoch']}", describe=stored_log)


def test_the_run_ends_well_with_every_epoch_once(long_run: LongRun):
    tspctl = long_run.tspctl
    assert long_run.epochs() < EPOCHS, "the run was too quick: the last disturbances came after its end"
    done = tspctl.try_run("wait", RUN, "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(tspctl.kubectl)}"
    assert tspctl.epochs_in_results(RUN) == list(range(EPOCHS))
    assert {f"epoch_{epoch}.pth" for epoch in range(EPOCHS)} <= tspctl.keys(RUN)
