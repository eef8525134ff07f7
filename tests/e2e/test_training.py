"""From ``tspctl submit`` to a checkpoint in the hand, on a real cluster."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.e2e.conftest import a_namespace, what_happened
from tests.e2e.kubectl import Kubectl
from tests.e2e.places import Cluster
from tests.e2e.tspctl import Tspctl

pytestmark = pytest.mark.e2e

EPOCHS = 2


class Finished:
    """A run that was submitted with --follow, and what that printed."""

    def __init__(self, tspctl: Tspctl, method: str, gpus: int) -> None:
        self.tspctl, self.method, self.gpus, self.name = tspctl, method, gpus, f"demo-{method}"
        self.submit = tspctl.try_run(
            "submit", "--dataset", "demo", "--method", method, "--gpus", str(gpus), "--name", self.name,
            "--epochs", str(EPOCHS), "--clips-per-segment", "2", "--follow",
            timeout_sec=480,
        )  # fmt: skip
        if self.submit.returncode:
            print(what_happened(tspctl.kubectl))


@pytest.fixture(scope="module", params=[("tsp", 2), ("tac", 4)], ids=["tsp-2", "tac-4"])
def finished(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    user: Callable[[Kubectl, Path], Tspctl],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Finished]:
    method, gpus = request.param
    with a_namespace(cluster, f"training-{method}") as kubectl:
        yield Finished(user(kubectl, tmp_path_factory.mktemp("user")), method, gpus)


def test_submit_follows_the_run_to_success(finished: Finished):
    assert finished.submit.returncode == 0, f"{finished.submit.stdout}\n{finished.submit.stderr}"
    assert finished.tspctl.status(finished.name)["state"] == "succeeded"
    assert finished.tspctl.run("wait", finished.name) == ""


def test_every_rank_held_a_gpu_and_could_write_nowhere_but_its_volumes(finished: Finished):
    pods = finished.tspctl.kubectl.items("pods", "-l", f"training.kubeflow.org/job-name={finished.name}")
    containers = [pod["spec"]["containers"][0] for pod in pods]
    # workers that have ended stay too: cleanPodPolicy Running takes only those that still run
    assert containers
    assert {container["resources"]["limits"]["nvidia.com/gpu"] for container in containers} == {"1"}
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers)
    job = finished.tspctl.kubectl.get("pytorchjob", finished.name)["spec"]["pytorchReplicaSpecs"]
    assert job["Master"]["replicas"] + job["Worker"]["replicas"] == finished.gpus


def test_every_epoch_is_in_the_store_once_and_verified(finished: Finished):
    tspctl, name = finished.tspctl, finished.name
    assert tspctl.epochs_in_results(name) == list(range(EPOCHS))
    for epoch in range(EPOCHS):
        record = tspctl.stored(name, f"epoch_{epoch}.json")
        checkpoint = tspctl.s3.read(f"{tspctl.prefix}/{name}/epoch_{epoch}.pth")
        assert record["sha256"] == hashlib.sha256(checkpoint).hexdigest()
        assert record["size_bytes"] == len(checkpoint)


def test_no_credential_is_in_the_store_the_config_map_or_the_logs(finished: Finished):
    tspctl = finished.tspctl
    kept = [tspctl.s3.read(f"{tspctl.prefix}/{finished.name}/run.json").decode()]
    kept += [json.dumps(thing) for thing in tspctl.kubectl.items("configmaps,pytorchjobs,events")]
    kept += [tspctl.run("logs", finished.name)]
    assert tspctl.s3.secret_key not in "".join(kept)


def test_following_showed_every_line_of_every_rank_once(finished: Finished):
    tspctl, name = finished.tspctl, finished.name
    shown = [
        line for line in (finished.submit.stdout + finished.submit.stderr).splitlines() if line.startswith("[rank ")
    ]
    stored = tspctl.stored_log(name, ranks=range(finished.gpus))
    assert {line.split("]")[0] for line in stored} == {f"[rank {rank}" for rank in range(finished.gpus)}
    # what a rank says before and after the store is at hand is on its console alone
    assert Counter(stored) - Counter(shown) == Counter()
    assert [line for line, times in Counter(shown).items() if times > max(1, stored.count(line))] == []


def test_fetch_best_brings_the_checkpoint_of_the_best_epoch_and_it_loads(finished: Finished, tmp_path: Path):
    tspctl, name = finished.tspctl, finished.name
    records = [tspctl.stored(name, f"epoch_{epoch}.json") for epoch in range(EPOCHS)]
    best = max(records, key=lambda record: (round(record["result"]["avg_accuracy_percent"], 3), -record["epoch"]))
    path = tspctl.run("fetch-best", name, "--dest", str(tmp_path), "--keep-optimizer").strip()
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == best["sha256"]
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    assert checkpoint["epoch"] == best["epoch"]
    heads = {key.split(".")[0] for key in checkpoint["model"] if key.startswith("fc")}
    assert heads == ({"fc1", "fc2"} if finished.method == "tsp" else {"fc"})


def test_results_list_the_epochs(finished: Finished):
    answer = json.loads(finished.tspctl.run("results", finished.name, "-o", "json"))
    assert [row["epoch"] for row in answer["epochs"]] == list(range(EPOCHS))


def test_deleting_the_run_takes_its_objects_and_uninstalling_leaves_the_store(finished: Finished):
    tspctl, name = finished.tspctl, finished.name
    assert [row["name"] for row in json.loads(tspctl.run("list", "-o", "json"))] == [name]
    before = tspctl.keys(name)
    tspctl.helm("uninstall", name, "--wait")
    assert tspctl.kubectl.items("pytorchjobs") == []
    assert tspctl.keys(name) == before
    # without pods, what happened is read from the store
    assert tspctl.status(name)["state"] == "succeeded"
    stored = Counter(tspctl.stored_log(name, ranks=range(finished.gpus)))
    assert Counter(tspctl.run("logs", name).splitlines()) == stored
