"""``tspctl list``: a thousand runs within two seconds, each with its reason."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cli.backends.base import RunStatus
from cli.runs.reports import (
    FEW_READ_SEC,
    LEAST_READ_SEC,
    MAX_INACTIVE_READ,
    read_within,
    worth_reading,
)
from tests.k8s.objects import event, job, pod, unschedulable
from tests.k8s.serving import EVENTS, INDEXED_JOBS, JOBS, PODS
from tsp.config.run import StoreConfig
from tsp.run.records import Progress
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store

WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/video/workloads"


@pytest.fixture
def listed(tspctl, cluster):
    """Rows of ``tspctl list``, by name."""

    def rows(*arguments):
        shown = tspctl("list", "-o", "json", "--kubeconfig", cluster.where.kubeconfig, *arguments)
        assert shown.code == 0, shown.err
        return {row["name"]: row for row in shown.json}

    return rows


def of_run(found, name):
    """A pod as one of that run."""
    found["metadata"] |= {"name": f"{name}-master-0", "uid": f"pod of {name}"}
    found["metadata"]["labels"]["training.kubeflow.org/job-name"] = name
    return found


def runs(count, *conditions, store="s3://bucket/runs"):
    """PyTorchJobs as large as real ones, the last one the newest."""
    found = []
    template = {"spec": {"containers": [{"env": [{"name": f"E{i}", "value": "x" * 40} for i in range(80)]}]}}
    for index in range(count):
        item = job(*conditions, name=f"run-{index}", annotations={"tspctl/store": json.dumps({"uri": store})})
        created = f"2030-01-01T00:{index // 60:02d}:{index % 60:02d}Z"
        item["metadata"] |= {"uid": str(index), "creationTimestamp": created}
        for replica in item["spec"]["pytorchReplicaSpecs"].values():
            replica["template"] = template
        found.append(item)
    return found


@pytest.mark.parametrize("condition", ["Succeeded", "Created"])
def test_a_thousand_runs_take_less_than_two_seconds_and_a_few_pages(api, cluster, tmp_path, condition):
    """Of its own time, start included: how long it takes on a busy machine says nothing about the program."""
    api.objects |= {JOBS: runs(1000, condition), INDEXED_JOBS: [], EVENTS: []}
    waiting = [unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.") for _ in range(1000)]
    api.objects[PODS] = [of_run(item, f"run-{index}") for index, item in enumerate(waiting)]
    command = [Path(sys.executable).with_name("tspctl"), "list", "--kubeconfig", cluster.where.kubeconfig]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = {key: value for key, value in os.environ.items() if not key.startswith("TSPCTL_")} | {"HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()[1:]
    assert (len(rows), rows[0].split()[0], rows[-1].split()[0]) == (1000, "run-999", "run-0")
    assert sum("not enough free nvidia.com/gpu" in row for row in rows) == (1000 if condition == "Created" else 0)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
    pages = [query.get("continue") for _, path, query, _ in api.requests if path == JOBS]
    assert pages == [None, "500"]
    assert len(api.requests) <= 9


def test_every_run_has_its_reason_where_one_request_for_all_tells_it(api, listed):
    held_back = job("Suspended", name="queued", suspend=True, labels={"kueue.x-k8s.io/queue-name": "team"})
    held_back["metadata"]["uid"] = "of-queued"
    api.objects |= {
        INDEXED_JOBS: [],
        JOBS: [job("Created", name="no-room"), job("Created", name="no-quota"), held_back,
               job("Created", "Running", name="well"), job("Succeeded", name="done")],
        PODS: [of_run(unschedulable("no room"), "no-room")],
        EVENTS: [event("FailedCreatePod", "Error creating: exceeded quota: gpus, requested: 1", of="no-quota"),
                 event("FailedCreatePod", "Error creating: before it ran", of="well")],
        WORKLOADS: [{
            "metadata": {"labels": {"kueue.x-k8s.io/job-uid": "of-queued"}},
            "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": "no GPUs left"}]},
        }],
    }  # fmt: skip
    assert {name: row["reason"] for name, row in listed().items()} == {
        "no-room": "rank 0 cannot be scheduled: no room",
        "no-quota": "quota gpus is used up: requested: 1",
        "queued": "waits in queue team: no GPUs left",
        "well": None,
        "done": None,
    }


def test_events_and_workloads_that_may_not_be_read_are_passed_over(api, listed):
    held_back = job("Suspended", name="queued", suspend=True, labels={"kueue.x-k8s.io/queue-name": "team"})
    forbidden = lambda *_: (403, {"message": "no"})  # noqa: E731
    api.objects |= {INDEXED_JOBS: [], JOBS: [job("Created"), held_back], PODS: [], EVENTS: forbidden}
    assert listed()["my-run"]["reason"] is None
    assert listed()["queued"]["reason"].startswith("waits in queue team")


PROGRESS = Progress(
    phase="training", epoch=2, epochs=5, step=1, steps=9, world_size=2, downscale=1, batch_per_gpu=4,
    global_batch=8, backbone_lr=0.1, head_lr=0.1, clips_per_sec=1.0, eta_sec=1.0, attempt=1,
)  # fmt: skip
RESULTS = b"** Valid Epoch 1:  <action-label> Accuracy 75.000 Loss 0.5; Total Loss 0.5 Avg Accuracy 75.000\n"


@pytest.mark.parametrize("condition", ["Running", "Succeeded", "Failed", "Suspended"])
def test_a_run_shows_its_progress_and_best_epoch_while_it_runs_and_ever_after(api, listed, tmp_path, condition):
    uri = f"file://{tmp_path}/store"
    jobs = runs(2, condition, store=uri)
    for item in jobs:
        item["spec"]["runPolicy"] = {"suspend": condition == "Suspended"}
    api.objects |= {INDEXED_JOBS: [], JOBS: jobs, PODS: [of_run(pod(0), "run-1")] if condition == "Running" else []}
    store = open_store(StoreConfig(uri=uri))
    StoredRun(store, "run-1").write_progress(PROGRESS)
    store.write("run-1/results.txt", RESULTS)
    rows = listed()
    assert {row["state"] for row in rows.values()} == {condition.lower()}
    assert (rows["run-1"]["progress"], rows["run-0"]["progress"]) == ("3/5", None)
    assert (rows["run-1"]["best"], rows["run-0"]["best"]) == ("75.000 % (epoch 1)", None)


def test_the_store_is_asked_about_runs_at_work_first_then_about_the_newest_others():
    stored = StoreConfig(uri="s3://bucket/runs")
    states = ["succeeded", "pending", "suspended", "running", "failed", "restarting"] * 40
    places = [RunStatus(name=f"run-{i}", state=state, store=stored) for i, state in enumerate(states)]
    asked, seconds = worth_reading(places, 0.5)
    assert seconds == 0.5
    assert [states[index] for index in asked[:80]] == ["running", "restarting"] * 40
    assert [states[index] for index in asked[80:]] == (["succeeded", "suspended", "failed"] * 40)[:MAX_INACTIVE_READ]
    assert worth_reading(places, -1.0) == (asked[:80], LEAST_READ_SEC)
    assert worth_reading([RunStatus(name="nowhere", state="running")], 9.0) == ([], FEW_READ_SEC)


def test_a_few_runs_are_all_read_however_long_the_api_server_took():
    store = StoreConfig(uri="s3://runs")
    few = [RunStatus(name=f"r{i}", state=state, store=store) for i, state in enumerate(["succeeded", "running"] * 50)]
    asked, seconds = worth_reading(few, -1.0)
    assert (sorted(asked), seconds) == (list(range(100)), FEW_READ_SEC)
    assert few[asked[0]].state == "running"


def test_a_store_that_does_not_answer_does_not_hold_up_the_list():
    stays = threading.Event()

    def read(item):
        if item == 2:
            stays.wait(600)
        return f"report {item}"

    start = time.monotonic()
    assert sorted(read_within(0.5, read, [0, 1, 2, 3])) == [(0, "report 0"), (1, "report 1"), (3, "report 3")]
    assert 0.4 < time.monotonic() - start < 300
    stays.set()


def test_the_newest_runs_are_read_first_and_a_bug_is_not_swallowed():
    order = []
    assert len(list(read_within(None, lambda item: order.append(item) or item, list(range(100))))) == 100
    assert order[:5] == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        list(read_within(5, lambda item: 1 // item, [0]))
