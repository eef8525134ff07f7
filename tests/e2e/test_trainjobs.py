"""The same runs as TrainJobs of Kubeflow Trainer v2, from ``tspctl submit`` to a checkpoint in the hand."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import a_namespace, what_happened
from tests.e2e.kubectl import PATIENCE_SEC, Kubectl, wait_for
from tests.e2e.long_run import LongRun
from tests.e2e.places import Cluster
from tests.e2e.test_helm import install
from tests.e2e.tspctl import SECRET, Tspctl

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("trainer")]

RUN = "train"
EPOCHS = 16
"""More than the disturbances take."""
DEMO = ("--dataset", "demo", "--epochs", str(EPOCHS), "--clips-per-segment", "2", "--set", "state_every_sec=1")


@pytest.fixture(scope="module")
def long_run(
    cluster: Cluster, user: Callable[[Kubectl, Path], Tspctl], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LongRun]:
    with a_namespace(cluster, "trainjob") as kubectl:
        run = LongRun(
            user(kubectl, tmp_path_factory.mktemp("user")), RUN, "--method", "tsp", "--job-api", "trainjob",
            epochs=EPOCHS, pods_label="jobset.sigs.k8s.io/jobset-name",
        )  # fmt: skip
        yield run
        run.following.kill()


def test_it_is_a_trainjob_that_status_shows_like_any_run(cluster: Cluster, long_run: LongRun):
    kubectl = long_run.tspctl.kubectl
    assert kubectl.items("pytorchjobs") == []
    assert [item["metadata"]["name"] for item in kubectl.items("trainjobs,trainingruntimes")] == [RUN, RUN]
    status = long_run.tspctl.status(RUN)
    assert (status["state"], status["gpus"], status["epochs"]) == ("running", 2, EPOCHS)
    assert [(rank["rank"], rank["state"], rank["where"]) for rank in status["ranks"]] == [
        (0, "running", cluster.node), (1, "running", cluster.node),
    ]  # fmt: skip
    (row,) = json.loads(long_run.tspctl.run("list", "-o", "json"))
    assert (row["name"], row["state"]) == (RUN, "running")


def test_a_command_runs_beside_a_rank_that_knows_its_number(long_run: LongRun):
    command = ("sh", "-c", "echo node $PET_NODE_RANK of $PET_NNODES; exit 7")
    done = long_run.tspctl.try_run("exec", RUN, "--rank", "1", "--", *command)
    assert (done.stdout, done.returncode) == ("node 1 of 2\n", 7), done.stderr


def kill_the_container_of_rank_1(cluster: Cluster, run: LongRun) -> None:
    if not cluster.ours:
        pytest.skip("a container of somebody else's node cannot be killed from here")
    (pod,) = [item for item in run.pods() if item["metadata"]["name"].startswith(f"{RUN}-node-0-1-")]
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    cluster.control("kill-container", container)


def delete_the_pod_of_rank_0(cluster: Cluster, run: LongRun) -> None:
    (pod,) = [item for item in run.pods() if item["metadata"]["name"].startswith(f"{RUN}-node-0-0-")]
    run.tspctl.kubectl.run("delete", "pod", pod["metadata"]["name"], "--wait=false")


@pytest.mark.parametrize("disturb", [kill_the_container_of_rank_1, delete_the_pod_of_rank_0])
def test_a_run_that_loses_a_rank_goes_on_from_its_state(
    cluster: Cluster, long_run: LongRun, disturb: Callable[[Cluster, LongRun], None]
):
    attempt, epochs = long_run.attempt(), long_run.epochs()
    assert epochs < EPOCHS - 1, "the run was too quick to be disturbed"
    disturb(cluster, long_run)
    long_run.wait_for_epochs(epochs + 1)
    assert long_run.attempt() > attempt, "the run was not disturbed at all"


def test_suspend_gives_the_gpus_back_and_resume_goes_on(long_run: LongRun):
    tspctl, attempt = long_run.tspctl, long_run.attempt()
    tspctl.run("suspend", RUN)
    epochs = long_run.epochs()
    assert epochs < EPOCHS - 1, "the run was too quick to be suspended"
    assert long_run.pods() == []
    assert tspctl.status(RUN)["state"] == "suspended"
    _, said = long_run.following.communicate(timeout=PATIENCE_SEC)
    assert long_run.following.returncode == 101, said
    tspctl.run("resume", RUN)
    long_run.wait_for_epochs(epochs + 1)
    assert long_run.attempt() == attempt + 1


def test_the_run_ends_well_with_every_epoch_once_and_its_best_is_fetched(long_run: LongRun, tmp_path: Path):
    tspctl = long_run.tspctl
    done = tspctl.try_run("wait", RUN, "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(tspctl.kubectl)}"
    assert tspctl.epochs_in_results(RUN) == list(range(EPOCHS))
    records = [tspctl.stored(RUN, f"epoch_{epoch}.json") for epoch in range(EPOCHS)]
    best = max(records, key=lambda record: (round(record["result"]["avg_accuracy_percent"], 3), -record["epoch"]))
    path = tspctl.run("fetch-best", RUN, "--dest", str(tmp_path), "--keep-optimizer").strip()
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == best["sha256"]


def test_deleting_takes_every_object_along(long_run: LongRun):
    tspctl = long_run.tspctl
    tspctl.run("delete", RUN, "--keep-store", "--yes")
    kinds = "trainjobs,trainingruntimes,jobsets,jobs,configmaps"
    assert tspctl.kubectl.items(kinds, "-l", "app.kubernetes.io/part-of=tspctl") == []
    assert tspctl.status(RUN)["state"] == "succeeded"


def test_two_pods_of_two_ranks_each(tspctl: Tspctl):
    done = tspctl.try_run(
        "submit", "--dataset", "demo", "--method", "tac", "--gpus", "4", "--gpus-per-pod", "2", "--name", "pairs",
        "--job-api", "trainjob", "--epochs", "2", "--clips-per-segment", "2", "--follow",
        timeout_sec=480,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(tspctl.kubectl)}"
    pods = tspctl.kubectl.items("pods", "-l", "jobset.sigs.k8s.io/jobset-name=pairs")
    assert [pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in pods] == ["2", "2"]
    stored = tspctl.stored_log("pairs", ranks=range(4))
    assert {line.split("]")[0] for line in stored} == {f"[rank {rank}" for rank in range(4)}
    shown = [line for line in done.stderr.splitlines() if line.startswith("[rank ")]
    assert Counter(stored) - Counter(shown) == Counter(), "lines that were lost"
    own = tspctl.run("logs", "pairs", "--rank", "3").splitlines()
    assert own
    assert all(line.startswith("[rank 3] ") for line in own)
    assert tspctl.status("pairs")["gpus"] == 4


def test_cancel_ends_a_run_for_good(tspctl: Tspctl):
    tspctl.run("submit", *DEMO, "--method", "tac", "--name", "ended", "--job-api", "trainjob")
    wait_for(
        lambda: tspctl.status("ended")["state"] == "running",
        what="running", describe=lambda: what_happened(tspctl.kubectl),
    )  # fmt: skip
    tspctl.run("cancel", "ended")
    assert tspctl.try_run("wait", "ended").returncode == 103
    assert tspctl.kubectl.items("pods") == []


def test_a_permanent_exit_code_ends_a_run_at_once_and_the_reason_is_said(tspctl: Tspctl):
    tspctl.make_secret(SECRET, tspctl.s3.access_key, "not-the-secret")
    store = f"s3://{tspctl.s3.bucket}/{tspctl.prefix}"
    install(tspctl, "locked-out", dataset="demo", method="tac", store__uri=store, job__api="trainjob")
    done = tspctl.try_run("wait", "locked-out", "--timeout", "400", timeout_sec=420)
    assert done.returncode == 100, what_happened(tspctl.kubectl)
    assert "exit code 5" in tspctl.status("locked-out")["reason"]
    jobset = tspctl.kubectl.get("jobset", "locked-out")
    assert jobset["status"].get("restarts", 0) == 0


def test_helm_alone_installs_a_trainjob_and_leaves_nothing(tspctl: Tspctl):
    store = f"s3://{tspctl.s3.bucket}/{tspctl.prefix}"
    install(tspctl, "by-helm", dataset="demo", method="tac", epochs="1", store__uri=store, job__api="trainjob")
    done = tspctl.try_run("wait", "by-helm", "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(tspctl.kubectl)}"
    tspctl.helm("uninstall", "by-helm", "--wait")
    wait_for(
        lambda: tspctl.kubectl.items("trainjobs,trainingruntimes,pods") == [],
        what="nothing left",
    )
