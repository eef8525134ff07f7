"""Queues of Kueue: runs that wait for quota, are preempted, deactivated, limited in time; a queue that nobody manages.

One queue with quota for one GPU, which the runs of this file pass on in the order of its tests.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import a_namespace, what_happened
from tests.e2e.kubectl import Kubectl, Object, wait_for
from tests.e2e.places import Cluster
from tests.e2e.tspctl import Tspctl, model_in

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kueue")]

KUEUE = "kueue.x-k8s.io/v1beta1"
QUEUE = "team"
EPOCHS = 12
"""Of the runs that are compared: enough for one of them to be disturbed twice, on a quick machine too."""
DEMO = ("--dataset", "demo", "--method", "tac", "--clips-per-segment", "2", "--set", "state_every_sec=1")


class Team:
    """A user with a queue that has quota for one GPU, and two priorities."""

    def __init__(self, tspctl: Tspctl) -> None:
        self.tspctl, self.name = tspctl, str(tspctl.kubectl.namespace)
        quotas = {"cpu": "64", "memory": "256Gi", "nvidia.com/gpu": "1"}
        flavor = {
            "name": self.name,
            "resources": [{"name": key, "nominalQuota": text} for key, text in quotas.items()],
        }
        spec = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.name}},
            "resourceGroups": [{"coveredResources": list(quotas), "flavors": [flavor]}],
            "preemption": {"withinClusterQueue": "LowerPriority"},
        }
        tspctl.kubectl.apply(
            {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": self.name}},
            {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": self.name}, "spec": spec},
            {"apiVersion": KUEUE, "kind": "LocalQueue", "metadata": {"name": QUEUE},
             "spec": {"clusterQueue": self.name}},
            *(
                {"apiVersion": KUEUE, "kind": "WorkloadPriorityClass", "metadata": {"name": self.priority(level)},
                 "value": value}
                for level, value in (("low", 1), ("high", 100))
            ),
        )  # fmt: skip

    def priority(self, level: str) -> str:
        """These classes are of the whole cluster."""
        return f"{self.name}-{level}"

    def submit(self, name: str, *options: str, epochs: int = EPOCHS, priority: str = "low") -> None:
        self.tspctl.run(
            "submit", *DEMO, "--name", name, "--epochs", str(epochs), "--queue", QUEUE,
            "--priority", self.priority(priority), *options,
        )  # fmt: skip

    def shown(self, name: str) -> Object:
        """The run in ``list``."""
        rows = json.loads(self.tspctl.run("list", "-o", "json"))
        return next(row for row in rows if row["name"] == name)

    def wait_for_state(self, name: str, *states: str) -> Object:
        """The status of a run, once it is in one of the states."""

        def reached() -> Object | None:
            status = self.tspctl.status(name)
            return status if status["state"] in states else None

        return wait_for(
            reached, what=f"{name} that is {' or '.join(states)}",
            describe=lambda: f"{self.tspctl.status(name)}\n{what_happened(self.tspctl.kubectl)}",
        )  # fmt: skip

    def wait_for_reason(self, name: str, *words: str) -> Object:
        """The status of a run, once its reason has the words, and ``list`` says the same."""

        def told() -> Object | None:
            status = self.tspctl.status(name)
            if not all(word in (status["reason"] or "") for word in words):
                return None
            row = self.shown(name)
            return status if (row["state"], row["reason"]) == (status["state"], status["reason"]) else None

        status = wait_for(
            told, what=f"{name} with the reason {words} in status and list",
            describe=lambda: f"{self.tspctl.status(name)}\n{self.shown(name)}\n{what_happened(self.tspctl.kubectl)}",
        )  # fmt: skip
        assert "\n" not in status["reason"]
        return status

    def wait_for_epochs(self, name: str, count: int) -> None:
        """Until so many are in the store, fewer than all."""
        assert count < EPOCHS, "the run was too quick to be disturbed"
        wait_for(
            lambda: self.epochs(name) >= count, what=f"{count} epochs of {name}",
            describe=lambda: what_happened(self.tspctl.kubectl),
        )  # fmt: skip

    def epochs(self, name: str) -> int:
        """Epochs in the store."""
        return sum(key.startswith("epoch_") and key.endswith(".json") for key in self.tspctl.keys(name))

    def workload(self, name: str) -> str:
        """Name of Kueue's object for a run."""
        uid = self.tspctl.kubectl.get("pytorchjob", name)["metadata"]["uid"]
        (found,) = self.tspctl.kubectl.items("workloads", "-l", f"kueue.x-k8s.io/job-uid={uid}")
        return str(found["metadata"]["name"])

    def weights(self, name: str) -> dict[str, Any]:
        """Digest of every tensor of the last epoch's model."""
        path = self.tspctl.folder / f"{name}.pth"
        path.write_bytes(self.tspctl.s3.read(f"{self.tspctl.prefix}/{name}/epoch_{EPOCHS - 1}.pth"))
        return {key: hashlib.sha256(found.numpy().tobytes()).hexdigest() for key, found in model_in(path).items()}


@pytest.fixture(scope="module")
def team(
    cluster: Cluster, user: Callable[[Kubectl, Path], Tspctl], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    with a_namespace(cluster, "kueue") as kubectl:
        found = Team(user(kubectl, tmp_path_factory.mktemp("user")))
        yield found
        kubectl.run("delete", "pytorchjobs", "--all", "--wait=false")
        kubectl.run("delete", "clusterqueue,resourceflavor", found.name, "--wait=false")
        kubectl.run("delete", "workloadpriorityclass", *map(found.priority, ("low", "high")), "--wait=false")


def test_of_two_runs_the_second_waits_for_quota_and_says_so(team: Team):
    team.submit("calm")
    team.submit("busy")
    team.wait_for_state("calm", "running")
    status = team.wait_for_reason("busy", f"waits in queue {QUEUE}", "insufficient unused quota for nvidia.com/gpu")
    assert status["state"] == "pending"
    assert status["ranks"] == []


def test_a_run_that_is_larger_than_the_quota_is_said_to_wait_for_ever(team: Team):
    team.submit("greedy", "--gpus", "2")
    status = team.wait_for_reason("greedy", f"can never start in queue {QUEUE}", "nvidia.com/gpu", "maximum capacity")
    assert status["state"] == "pending"
    team.tspctl.run("cancel", "greedy")
    assert team.tspctl.status("greedy")["state"] == "cancelled"


def test_a_queue_that_nobody_manages_is_refused_and_nothing_is_left(team: Team, trainer: None):
    """This Kueue knows nothing of TrainJobs."""
    refused = team.tspctl.try_run("submit", *DEMO, "--queue", QUEUE, "--name", "past", "--job-api", "trainjob")
    assert refused.returncode == 4, refused.stderr
    assert f"names the queue {QUEUE}, but Kueue does not manage it" in refused.stderr
    assert "trainer.kubeflow.org/trainjob" in refused.stderr
    of_run = ("-l", "app.kubernetes.io/instance=past")
    assert team.tspctl.kubectl.items("trainjobs,trainingruntimes,configmaps,secrets", *of_run) == []


def test_the_second_starts_when_the_first_has_ended(team: Team):
    done = team.tspctl.try_run("wait", "calm", "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(team.tspctl.kubectl)}"
    team.wait_for_state("busy", "running")


def test_a_run_of_higher_priority_takes_its_place_and_that_is_said(team: Team):
    team.wait_for_epochs("busy", 1)
    team.submit("urgent", priority="high", epochs=1)
    status = team.wait_for_reason("busy", "was preempted (", f"waits in queue {QUEUE} again")
    assert status["state"] == "pending"
    assert 0 < team.epochs("busy") < EPOCHS
    done = team.tspctl.try_run("wait", "urgent", "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(team.tspctl.kubectl)}"


def test_a_run_that_was_deactivated_is_suspended_until_it_is_resumed(team: Team):
    team.wait_for_epochs("busy", team.epochs("busy") + 1)
    patch = json.dumps({"spec": {"active": False}})
    team.tspctl.kubectl.run("patch", "workload", team.workload("busy"), "--type=merge", "-p", patch)
    status = team.wait_for_reason("busy", f"deactivated in queue {QUEUE}", "continue with 'tspctl resume busy'")
    assert status["state"] == "suspended"
    assert team.tspctl.try_run("wait", "busy", "--timeout", "60").returncode == 101
    assert team.epochs("busy") < EPOCHS
    team.tspctl.run("resume", "busy")
    team.wait_for_state("busy", "running")


def test_what_was_preempted_and_deactivated_ends_with_the_results_of_an_undisturbed_run(team: Team):
    tspctl = team.tspctl
    done = tspctl.try_run("wait", "busy", "--timeout", "400", timeout_sec=420)
    assert done.returncode == 0, f"{done.stderr}\n{what_happened(tspctl.kubectl)}"
    assert tspctl.stored("busy", "progress.json")["attempt"] >= 3
    results = [tspctl.s3.read(f"{tspctl.prefix}/{name}/results.txt").decode() for name in ("calm", "busy")]
    assert results[0] == results[1]
    assert len(results[0].splitlines()) == EPOCHS
    assert team.weights("calm") == team.weights("busy")


def test_a_deadline_ends_a_run_in_a_queue_and_one_without(team: Team):
    team.submit("brief", "--deadline", "8s")
    team.tspctl.run("submit", *DEMO, "--name", "short", "--deadline", "8s")
    status = team.wait_for_reason("brief", f"ran longer than its deadline allows in queue {QUEUE}")
    assert status["state"] == "suspended"
    status = team.wait_for_reason("short", "ran longer than its deadline allows (--deadline")
    assert status["state"] == "failed"
    assert team.tspctl.try_run("wait", "short").returncode == 100
