"""``tspctl list``: a thousand runs within two seconds, each with its reason."""

import dataclasses
import json
import os
import re
import resource
import socket
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy
from tests.k8s.objects import event, job, node_pod, pod, train_job, unschedulable
from tests.k8s.serving import EVENTS, INDEXED_JOBS, JOBS, PODS, TRAIN_JOBS, serve_release
from tsp.config.recipes import load_dataset, resolve
from tsp.config.store import StoreConfig
from tsp.errors import StoreError
from tsp.run.records import Outcome, Progress, dump_record
from tsp.run.run_index import IndexWriter, facts_of, key_of
from tsp.run.stored_run import StoredRun
from tsp.store.deadline import within
from tsp.store.open import open_store

WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/video/workloads"


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Servers of tests may be slow on a busy machine."""
    monkeypatch.setattr("cli.runs.summaries.PATIENCE_SEC", 600)


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


def worker_of(name):
    found = of_run(pod(1), name)
    found["metadata"] |= {"name": f"{name}-worker-0", "uid": f"worker of {name}"}
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
def test_a_thousand_runs_take_a_few_seconds_of_a_core_and_a_few_pages(api, cluster, tmp_path, condition):
    """Of its own time, start included: below 2 s on an idle machine; a busy one's cores count twice or three times."""
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
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 6.0
    pages = [query.get("continue") for _, path, query, _ in api.requests if path == JOBS]
    assert pages == [None, "500"]
    # Pods three times: those that wait, those that hold GPUs meanwhile, and how many there are; events once a reason.
    assert len(api.requests) <= 16


def test_every_run_has_its_reason_where_one_request_for_all_tells_it(api, listed):
    held_back = job("Suspended", name="queued", suspend=True, labels={"kueue.x-k8s.io/queue-name": "team"})
    held_back["metadata"]["uid"] = "of-queued"
    api.objects |= {
        INDEXED_JOBS: [],
        JOBS: [job("Created", name="no-room"), job("Created", name="no-quota"), held_back,
               job("Created", "Running", name="well"), job("Succeeded", name="done"),
               job("Created", "Running", name="half"), job("Created", "Running", name="orphan"), job(name="nobody")],
        PODS: [of_run(unschedulable("no room"), "no-room"), of_run(pod(0), "well"), worker_of("well"),
               of_run(pod(0), "half")],
        EVENTS: [event("FailedCreatePod", "Error creating: exceeded quota: gpus, requested: 1", of="no-quota"),
                 event("FailedCreatePod", "Error creating: exceeded quota: gpus, requested: 1", of="half"),
                 event("FailedCreatePod", "Error creating: before it ran", of="well")],
        WORKLOADS: [{
            "metadata": {"labels": {"kueue.x-k8s.io/job-uid": "of-queued"}},
            "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": "no GPUs left"}]},
        }],
    }  # fmt: skip
    assert {name: row["reason"] for name, row in listed().items()} == {
        "no-room": "rank 0 cannot be scheduled: no room",
        "no-quota": "quota gpus is exceeded: requested: 1",
        "queued": "waits in queue team: no GPUs left",
        "well": None,
        "done": None,
        "half": "quota gpus is exceeded: requested: 1",
        "orphan": "has 0 of its 2 pods, and the training operator creates no others: "
        "is it running, and may it create pods?",
        "nobody": "no controller has picked it up yet: is the training operator running?",
    }


@pytest.mark.parametrize(("of_job", "of_pod"), [(job, pod), (train_job, node_pod)])
def test_a_run_that_holds_gpus_while_some_of_its_ranks_wait_is_told_apart_in_the_list(api, listed, of_job, of_pod):
    half = of_job("Created", gpus=3, annotations={"tspctl/gpu-resource": "nvidia.com/gpu"})
    waits = {**unschedulable("0/1 nodes: 1 Insufficient nvidia.com/gpu.", 2), "metadata": of_pod(2)["metadata"]}
    asked = []

    def pods(method, query, body):
        narrowed = query.get("fieldSelector")
        asked.append(narrowed)
        well = [of_pod(0), of_pod(1)]
        found = [*well, waits] if narrowed is None else well if narrowed == "status.phase=Running" else [waits]
        return 200, {"metadata": {}, "items": found}

    api.objects |= {path: [] for path in (INDEXED_JOBS, TRAIN_JOBS, JOBS)}
    api.objects |= {JOBS if of_job is job else TRAIN_JOBS: [half], EVENTS: [], PODS: pods}
    row = listed()["my-run"]
    assert row["reason"].startswith(
        "2 of 3 ranks hold GPUs, for placement_timeout_sec at most; rank 2 cannot be scheduled"
    )
    # and the pods that are well are read whole only then
    assert len(asked) == 3
    waits["metadata"]["labels"] = {}
    assert listed()["my-run"]["reason"] != row["reason"]
    assert asked[3:].count("status.phase=Running") == 0


def test_events_and_workloads_that_may_not_be_read_are_passed_over(api, listed):
    held_back = job("Suspended", name="queued", suspend=True, labels={"kueue.x-k8s.io/queue-name": "team"})
    api.objects |= {INDEXED_JOBS: [], JOBS: [job("Created"), held_back], PODS: []}
    api.objects[EVENTS] = lambda *_: (403, {"message": "no"})
    assert listed()["my-run"]["reason"].startswith("has 0 of its 2 pods")
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
    pods = [of_run(pod(0), "run-1")] if condition == "Running" else []
    api.objects |= {INDEXED_JOBS: [], JOBS: jobs, PODS: pods, EVENTS: []}
    store = open_store(StoreConfig(uri=uri))
    StoredRun(store, "run-1").write_progress(PROGRESS)
    store.write("run-1/results.txt", RESULTS)
    rows = listed()
    assert {row["state"] for row in rows.values()} == {condition.lower()}
    assert (rows["run-1"]["progress"], rows["run-0"]["progress"]) == ("3/5", None)
    assert (rows["run-1"]["best"], rows["run-0"]["best"]) == ("75.000 % (epoch 1)", None)


def store_in_bucket(server, monkeypatch, **changes):
    """A store of a real server, and the settings by which ``tspctl`` finds it."""
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    config = server.config(f"team/{uuid.uuid4().hex[:8]}", **changes)
    monkeypatch.setenv("TSPCTL_ENDPOINT_URL", config.endpoint_url)
    monkeypatch.setenv("TSPCTL_REGION", config.region)
    return open_store(config)


def progress_of(number, **changes):
    epoch = 1 + number % 4
    best = {"best_epoch": epoch - 1, "best_accuracy_percent": 50 + number / 50}
    return dataclasses.replace(PROGRESS, epoch=epoch, **{"phase": "done", **best, **changes})


def shown_as(number):
    epoch = 1 + number % 4
    return f"{epoch + 1}/5", f"{50 + number / 50:.3f} % (epoch {epoch - 1})"


PATIENT = "from cli.runs import summaries; summaries.PATIENCE_SEC = 600.0; from cli.main import main; main()"
"""``tspctl``, which waits for a store as long as a busy machine may need."""


def test_a_thousand_runs_in_a_bucket_are_all_shown_with_progress_and_best_epoch(
    api, cluster, s3_servers, monkeypatch, tmp_path
):
    """Judged by requests and by the program's own time, start included: a busy machine says nothing about it."""
    server = s3_servers("rclone")
    with FaultProxy(server.endpoint_url) as proxy:
        store = store_in_bucket(server, monkeypatch)
        jobs = runs(1000, "Succeeded", store=store.uri)
        for item in jobs:
            item["status"]["completionTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        api.objects |= {JOBS: jobs, INDEXED_JOBS: [], EVENTS: [], PODS: []}
        for number in range(1000):
            store.write(key_of(f"run-{number}", facts_of(progress_of(number), {})), b"")
        own = {key: value for key, value in os.environ.items() if not key.startswith("TSPCTL_")}
        own |= {"HOME": str(tmp_path), "TSPCTL_ENDPOINT_URL": proxy.url, "TSPCTL_REGION": "us-east-1"}
        command = [sys.executable, "-c", PATIENT, "list", "--kubeconfig", cluster.where.kubeconfig]
        expected = {f"run-{number}": shown_as(number) for number in range(1000)}
        for output in ("table", "json"):
            proxy.requests.clear()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [*command, "-o", output], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert done.returncode == 0, done.stderr
            assert found_in(done.stdout, output) == expected, done.stderr
            # one second on an idle machine, twice that where others use its caches; once for each run would be minutes
            assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 6.0
            assert len(proxy.requests) <= 5


def found_in(text, output):
    """Name -> progress and best epoch."""
    if output == "json":
        return {row["name"]: (row["progress"], row["best"]) for row in json.loads(text)}
    lines = [re.split(r" {3,}", line.rstrip()) for line in text.splitlines()[1:]]
    return {line[0]: (line[2], line[3]) for line in lines}


def test_a_run_whose_entry_is_old_or_missing_is_read_itself(api, listed, s3_server, monkeypatch):
    store = store_in_bucket(s3_server, monkeypatch)
    jobs = {name: job("Succeeded", name=name, annotations={"tspctl/store": json.dumps({"uri": store.uri})})
            for name in ("fresh", "stale", "old-version", "never-started", "two-entries", "not-kept")}  # fmt: skip
    for item in jobs.values():
        item["status"]["completionTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    later = datetime.now(UTC) + timedelta(minutes=4)
    jobs["stale"]["status"]["completionTime"] = later.strftime("%Y-%m-%dT%H:%M:%SZ")
    api.objects |= {INDEXED_JOBS: [], JOBS: list(jobs.values()), PODS: [], EVENTS: []}
    for name in ("fresh", "stale", "two-entries"):
        StoredRun(store, name).write_progress(progress_of(1))
    # To its end the run would have kept the entry.
    StoredRun(store, "not-kept").write_progress(progress_of(1, phase="training"))
    # What another version of the program, which keeps no index, went on to.
    for name in ("fresh", "stale", "old-version", "not-kept"):
        store.write(f"{name}/progress.json", dump_record(progress_of(2)))
    # An attempt that was killed between writing its entry and deleting the one before.
    StoredRun(store, "two-entries").write_progress(progress_of(3, attempt=2))
    left = IndexWriter(store, "two-entries", dict)
    left._stale = set()
    left.publish(progress_of(1))
    assert len(list(store.list(".index/two-entries,"))) == 2
    shown = {name: (row["progress"], row["best"]) for name, row in listed().items()}
    assert shown == {
        "fresh": shown_as(1),
        "stale": shown_as(2),
        "old-version": shown_as(2),
        "not-kept": shown_as(2),
        "never-started": (None, None),
        "two-entries": shown_as(3),
    }


def test_a_run_at_work_shows_its_speed_from_its_progress_and_the_rest_from_the_index(
    api, listed, s3_server, monkeypatch
):
    store = store_in_bucket(s3_server, monkeypatch)
    jobs = runs(1, "Running", store=store.uri)
    api.objects |= {INDEXED_JOBS: [], JOBS: jobs, PODS: [of_run(pod(0), "run-0")], EVENTS: []}
    config = resolve(load_dataset("demo"), "tac", name="run-0", store={"uri": store.uri}, root="/data")
    run = StoredRun(store, "run-0")
    run.create(config, None)
    run.write_progress(dataclasses.replace(PROGRESS, clips_per_sec=7.5))
    row = listed()["run-0"]
    assert (row["progress"], row["clips_per_sec"], row["method"], row["dataset"]) == ("3/5", 7.5, "tac", "demo")
    assert row["step"] == 1


@pytest.mark.parametrize(
    ("ended", "state"),
    [("2030-01-01T01:00:00+00:00", "succeeded"), ("2029-12-31T23:00:00+00:00", "crashed"), (None, "crashed")],
)
def test_a_run_whose_job_was_deleted_after_its_end_is_listed_as_it_ended(api, listed, tmp_path, ended, state):
    """As by a TTL; an outcome from before the release was made is that of another run."""
    serve_release(api, "my-run")
    for path in (JOBS, TRAIN_JOBS, INDEXED_JOBS):
        api.objects[path] = []
    run = StoredRun(open_store(StoreConfig(uri=str(tmp_path))), "my-run")
    if ended is not None:
        run.write_outcome(Outcome(state="succeeded", exit_code=0, reason="all epochs", attempt=1, ended=ended))
    assert listed("--store", str(tmp_path))["my-run"]["state"] == state
    assert listed()["my-run"]["state"] == "crashed", "without a store that is set"


def test_a_bucket_that_may_be_read_but_not_listed_is_read_run_by_run(api, listed, s3_server, monkeypatch):
    store = store_in_bucket(s3_server, monkeypatch)
    api.objects |= {INDEXED_JOBS: [], JOBS: runs(2, "Succeeded", store=store.uri), PODS: [], EVENTS: []}
    StoredRun(store, "run-0").write_progress(progress_of(2))

    def refuse(*_):
        raise StoreError("may not list")

    monkeypatch.setattr("cli.runs.summaries.read_index", refuse)
    assert listed()["run-0"]["progress"] == "4/5"


def test_a_store_that_does_not_answer_does_not_hold_up_the_list(api, listed, monkeypatch, caplog):
    """The address answers to a connection and to nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("cli.runs.summaries.PATIENCE_SEC", 0.3)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        monkeypatch.setenv("TSPCTL_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("TSPCTL_REGION", "us-east-1")
        api.objects |= {INDEXED_JOBS: [], JOBS: runs(3, "Succeeded"), PODS: [], EVENTS: []}
        with caplog.at_level("WARNING", logger="cli"):
            assert {name: row["state"] for name, row in listed().items()} == dict.fromkeys(
                ("run-0", "run-1", "run-2"), "succeeded"
            )
    assert "3 runs are shown without progress: s3://bucket/runs has not answered" in caplog.text


def test_what_a_read_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0)
    assert within(60, lambda: 5) == 5
