"""The commands themselves, as typed, for runs and jobs of a cluster."""

import json
import re
import threading

import kubernetes.client
import kubernetes.stream
import pytest
from click.shell_completion import ShellComplete

from cli.backends.cluster.backend import ClusterBackend
from cli.commands.submit import _follow
from cli.main import tspctl as tspctl_command
from cli.options.settings import Settings
from cli.runs.session import Session
from tests.k8s.fake_api import FakeLog
from tests.k8s.objects import event, indexed_job, job, pod, shard, terminated, unschedulable
from tests.k8s.serving import (
    EVENTS,
    INDEXED_JOBS,
    JOBS,
    PODS,
    goes_after,
    path_of,
    serve_release,
    serve_run,
    suspending,
)
from tsp.config.recipes import load_dataset, resolve
from tsp.errors import UnreachableError
from tsp.run.pod_images import recorded_images
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore


@pytest.fixture
def tspctl(tspctl, cluster, monkeypatch):
    """A command line that talks to the small server, without any setting of a store."""
    monkeypatch.setattr("k8s.runs._POLL_SEC", 0.01)
    monkeypatch.setattr("cli.runs.outcome.POLL_SEC", 0.01)
    return lambda *arguments: tspctl(*arguments, "--kubeconfig", cluster.where.kubeconfig)


def stored(tmp_path):
    return {"tspctl/store": json.dumps({"uri": f"file://{tmp_path}/store"})}


# Jobs beside training, which have no store


def test_a_jobs_status_is_its_controllers_and_needs_no_store(tspctl, api):
    ended = shard(1, "Failed", state=terminated(3, message="error: no video /v/a.mp4"))
    serve_run(api, indexed_job("Failed"), [shard(0, "Succeeded", state=terminated(0)), ended])
    shown = tspctl("status", "my-job")
    assert shown.code == 0, shown.err
    lines = dict(re.split("   +", line, maxsplit=1) for line in shown.out.split("\n\n")[0].splitlines())
    assert (lines["Job"], lines["Kind"], lines["Exit code"]) == ("my-job", "extract", "3 (bad data)")
    assert "Store" not in shown.out
    assert "rank 1 ended with exit code 3 (bad data): error: no video /v/a.mp4" in shown.out
    answer = tspctl("status", "my-job", "-o", "json").json
    assert [(rank["rank"], rank["state"]) for rank in answer["ranks"]] == [(0, "succeeded"), (1, "failed")]


def says(rank, *texts):
    """A shard's log, as the kubelet keeps what the program writes."""
    stamp = "2030-01-01T00:00:0{0}Z 2030-01-01T00:00:0{0}.000Z rank {1} {2}\n"
    return FakeLog([stamp.format(at % 10, rank, text).encode() for at, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("logs", "shown"),
    [
        ([says(0, "INFO 9 videos, 0 of them already done", "INFO 3 of 9 videos, 40 of 90 clips, 2.5 clips/s",
               "INFO 5 of 9 videos, 60 of 90 clips, 2.5 clips/s", "WARNING a.mp4 of 7 of 8 videos is broken"),
          says(1, "INFO 9 of 11 videos, about 2 min left")], "14 of 20 videos"),
        ([says(0, "INFO 9 videos, 0 of them already done"), says(1, "INFO 2 of 4 train videos")],
         "2 of 4 train videos, in 1 of 2 shards"),
        ([says(0, "INFO 3 of 9 batches", *["WARNING x"] * 12), says(1, "INFO 20 of 40 batches, 9.0 clips/s, 3 s left")],
         "23 of 49 batches"),
        ([says(0), says(1, "INFO 9 videos, 3 of them already done")], None),
        (None, None),
    ],
)  # fmt: skip
def test_status_says_how_far_a_job_is(tspctl, api, logs, shown):
    serve_run(api, indexed_job("Running"), [shard(0), shard(1)])
    for number, log in enumerate(logs or ()):
        api.logs[f"my-job-{number}-abcde"] = log
    if logs is None:
        forbidden = {f"{PODS}/my-job-{number}-abcde/log" for number in (0, 1)}
        answered, api.handle = api.handle, None
        api.handle = lambda handler: (
            api._answer(handler, 403, {"message": "no"}) if handler.path.partition("?")[0] in forbidden
            else answered(handler)
        )  # fmt: skip
    status = tspctl("status", "my-job", "-o", "json")
    assert (status.code, status.json["work"], status.err) == (0, shown, "")
    lines = tspctl("status", "my-job").out.splitlines()
    assert [line.split(maxsplit=3)[3] for line in lines if line.startswith("Done so far")] == [shown][
        : shown is not None
    ]
    if logs is not None:
        assert {query["tailLines"] for log in logs for query in log.queries} == {"20"}
        api.objects[path_of(indexed_job())] = indexed_job("Complete")
        assert tspctl("status", "my-job", "-o", "json").json["work"] is None


def test_status_shows_the_image_that_the_pods_resolved(tspctl, api):
    digest = "registry.example/tsp@sha256:" + "ab" * 32
    pods = [shard(0), shard(1)]
    for found, image in zip(pods, (f"docker-pullable://{digest}", digest), strict=True):
        found["status"]["containerStatuses"][0]["imageID"] = image
    serve_run(api, indexed_job("Running"), pods)
    shown = tspctl("status", "my-job").out
    assert f"Image       {digest}\n" in re.sub("(?m)^Image +", "Image       ", shown)
    assert {rank["image"] for rank in tspctl("status", "my-job", "-o", "json").json["ranks"]} == {digest}


DIGEST = "registry.example/tsp@sha256:" + "ab" * 32
IMAGE_ID = "sha256:" + "ef" * 32
OTHER = "registry.example/tsp@sha256:" + "cd" * 32


def run_of_image(api, tmp_path, image, phase="Running", conditions=("Created", "Running")):
    """A run in the cluster and its store whose pod's image resolved to that."""
    store = LocalStore(tmp_path / "store")
    run = StoredRun(store, "my-run")
    if not run.exists():
        config = resolve(load_dataset("demo"), "tac", name="my-run", store={"uri": store.uri}, root="/data")
        run.create(config, None)
        run.record_origins(versions={}, machine={"image": "registry.example/tsp:1"}, digests={"a.csv": "ab" * 32})
    found = pod(0, phase, state=terminated(0) if phase == "Succeeded" else {"running": {}})
    found["status"]["containerStatuses"][0]["imageID"] = image
    serve_run(api, job(*conditions, gpus=1, annotations=stored(tmp_path)), [found])
    return run


@pytest.mark.parametrize("words", [("status",), ("wait",), ("logs", "-f"), ("report", "--out", "r.html"), ("results",)])
def test_the_image_of_a_run_is_known_when_its_pods_are_gone(tspctl, api, tmp_path, words):
    run = run_of_image(api, tmp_path, f"docker-pullable://{DIGEST}", "Succeeded", ("Succeeded",))
    run.store.write("my-run/results.txt", b"** Valid Epoch 0:  <a> Accuracy 50.000 Loss 1.000; Total Loss 1.000 "
                                          b"Avg Accuracy 50.000\n")  # fmt: skip
    api.logs["my-run-master-0"] = FakeLog([b"2030-01-01T00:00:02Z 2030-01-01T00:00:01Z rank 0 INFO done\n"])
    assert tspctl(words[0], "my-run", *words[1:]).code == 0
    api.objects[PODS] = []
    assert recorded_images(run) == [DIGEST]
    shown = tspctl("status", "my-run")
    assert re.search(rf"(?m)^Image +{DIGEST}$", shown.out)


def test_a_run_that_goes_on_with_another_image_has_both_and_a_store_that_refuses_is_no_hindrance(
    tspctl, api, tmp_path, monkeypatch
):
    run = run_of_image(api, tmp_path, DIGEST)
    for image in (DIGEST, "", f"docker://{IMAGE_ID}", OTHER, DIGEST):
        run_of_image(api, tmp_path, image)
        assert tspctl("status", "my-run").code == 0
    assert recorded_images(run) == [DIGEST, IMAGE_ID, OTHER]
    shown = tspctl("status", "my-run").out
    assert f"{DIGEST}, then image ID {IMAGE_ID} (from no registry), then {OTHER}\n" in shown
    (tmp_path / "store/my-run/images.json").write_text("[")
    assert tspctl("status", "my-run", "-o", "json").json["images"] == [DIGEST]
    (tmp_path / "store/my-run/images.json").unlink()
    (tmp_path / "store/my-run/images.json").mkdir()
    shown = tspctl("status", "my-run")
    assert (shown.code, shown.err) == (0, "")


def test_status_asks_for_what_the_controller_of_a_volume_says(tspctl, api):
    waits = unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    waits["spec"]["volumes"] = [{"name": "videos", "persistentVolumeClaim": {"claimName": "lab-videos"}}]
    serve_run(api, job("Created", gpus=1), [waits])
    said = event("ProvisioningFailed", 'storageclass "fast" not found', of="lab-videos") | {"type": "Warning"}
    said["involvedObject"]["kind"] = "PersistentVolumeClaim"
    of_claim = "involvedObject.name=lab-videos"
    api.objects[EVENTS] = lambda _, query, __: (
        200, {"metadata": {}, "items": [said] if query.get("fieldSelector") == of_claim else []}
    )  # fmt: skip
    shown = tspctl("status", "my-run", "-o", "json").json
    assert shown["reason"].startswith(
        'rank 0 cannot be scheduled: the volume claim lab-videos is not bound: storageclass "fast" not found'
    )


def test_no_folder_is_made_for_a_run_that_has_none(tspctl, api, tmp_path):
    run = run_of_image(api, tmp_path, DIGEST)
    run.delete()
    assert tspctl("status", "my-run").code == 0
    assert not (tmp_path / "store/my-run").exists()


def test_a_job_is_listed_beside_runs(tspctl, api):
    serve_run(api, job("Created", "Running"))
    api.objects[JOBS] = [job("Created", "Running")]
    api.objects["/apis/batch/v1/namespaces/video/jobs"] = [indexed_job("Complete")]
    rows = tspctl("list", "-o", "json").json
    assert [(row["name"], row["kind"], row["state"]) for row in rows] == [
        ("my-run", "train", "running"),
        ("my-job", "extract", "succeeded"),
    ]


@pytest.mark.parametrize(("conditions", "code"), [(["Complete"], 0), (["Failed"], 100)])
def test_waiting_for_a_job_ends_with_its_outcome(tspctl, api, conditions, code):
    serve_run(api, indexed_job(*conditions))
    assert tspctl("wait", "my-job").code == code


def test_the_logs_of_a_job_end_with_its_outcome(tspctl, api):
    serve_run(api, indexed_job("Complete", shards=1), [shard(0, "Succeeded", state=terminated(0))])
    api.logs["my-job-0-abcde"] = FakeLog([b"2030-01-01T00:00:02Z 2030-01-01T00:00:01Z rank 0 INFO done\n"])
    for arguments in ((), ("-f",)):
        shown = tspctl("logs", "my-job", *arguments)
        assert (shown.code, shown.out) == (0, "[rank 0] INFO done\n")


def test_a_job_is_cancelled_resumed_and_deleted(tspctl, api, fake_helm):
    found = indexed_job()
    serve_run(api, found, [shard(0)])
    patches = suspending(api, found)
    assert tspctl("cancel", "my-job").code == 0
    assert tspctl("wait", "my-job").code == 103
    assert tspctl("resume", "my-job").code == 0
    assert [patch["spec"] for patch in patches] == [{"suspend": True}, {"suspend": False}]
    goes_after(api, indexed_job("Complete"), looks=4)
    fake_helm.has_release()
    serve_release(api, "my-job")
    deleted = tspctl("delete", "my-job", "--yes")
    assert (deleted.code, deleted.err) == (0, "deleted my-job\n")
    assert fake_helm.calls[-1]["arguments"][:2] == ["uninstall", "my-job"]


@pytest.mark.parametrize("command", [["results"], ["fetch-best"], ["fetch", "--all"]])
def test_a_job_has_no_epochs_to_fetch(tspctl, api, command):
    serve_run(api, indexed_job("Complete"))
    refused = tspctl(*command, "my-job")
    assert refused.code == 2
    assert "my-job is a job (extract), which has no epochs" in refused.err


# Runs


def test_a_run_that_was_stopped_before_it_wrote_anything_can_go_on(tspctl, api, tmp_path):
    found = job("Created", annotations=stored(tmp_path))
    serve_run(api, found, [unschedulable("no room")])
    patches = suspending(api, found)
    assert tspctl("suspend", "my-run").code == 0
    assert tspctl("resume", "my-run").code == 0
    assert patches[-1]["spec"] == {"runPolicy": {"suspend": False}}


def test_waiting_outlives_an_api_server_that_restarts(tspctl, api, tmp_path):
    serve_run(api, job("Created", "Running", annotations=stored(tmp_path)))
    run = api.objects[f"{JOBS}/my-run"]
    looks = iter(range(99))

    def answer(method, query, body):
        look = next(looks)
        if look == 1:
            api.failures += [None] * 11
        return 200, run if look < 3 else job("Succeeded", annotations=stored(tmp_path))

    api.objects[f"{JOBS}/my-run"] = answer
    waited = tspctl("wait", "my-run")
    assert (waited.code, waited.out) == (0, "")
    assert waited.err.count("still trying") == 1
    assert waited.err.endswith("run my-run: succeeded\n")


def test_waiting_that_is_out_of_time_says_how_the_run_is_doing(tspctl, api, tmp_path):
    serve_run(api, job("Created", annotations=stored(tmp_path)), [unschedulable("no room")])
    waited = tspctl("wait", "my-run", "--timeout", "0")
    assert waited.code == 101
    assert waited.err == "run my-run has not finished after 0 s: pending (rank 0 cannot be scheduled: no room)\n"


def test_a_run_that_is_removed_while_it_is_waited_for_is_missing(tspctl, api, tmp_path):
    goes_after(api, job("Created", "Running", annotations=stored(tmp_path)), looks=2)
    assert tspctl("wait", "my-run").code == 102
    assert tspctl("wait", "my-run", "--store", str(tmp_path)).code == 102


def test_a_followed_log_ends_with_the_outcome_though_the_server_is_away_just_then(tspctl, api, tmp_path):
    found = job("Failed", gpus=1, annotations=stored(tmp_path))
    serve_run(api, found, [pod(0, "Failed", state=terminated(3, message="error: bad.mp4"))])

    class Last(FakeLog):
        def serve(self, handler, query):
            api.failures += [None] * 5
            super().serve(handler, query)

    api.logs["my-run-master-0"] = Last([b"2030-01-01T00:00:02Z 2030-01-01T00:00:01Z rank 0 ERROR bad.mp4\n"])
    shown = tspctl("logs", "-f", "my-run")
    assert (shown.code, shown.out) == (100, "[rank 0] ERROR bad.mp4\n")
    assert shown.err.endswith("run my-run: failed: rank 0 ended with exit code 3 (bad data): error: bad.mp4\n")
    assert {EVENTS, PODS, path_of(found)} <= {path for _, path, _, _ in api.requests}


@pytest.mark.parametrize(("owner", "name"), [(Session, "find"), (ClusterBackend, "logs")])
def test_a_submitted_run_is_followed_though_the_server_is_away_just_then(
    tspctl, api, cluster, tmp_path, monkeypatch, caplog, owner, name
):
    serve_run(api, job("Succeeded", gpus=1, annotations=stored(tmp_path)), [pod(0, "Succeeded", state=terminated(0))])
    api.logs["my-run-master-0"] = FakeLog([b"2030-01-01T00:00:02Z 2030-01-01T00:00:01Z rank 0 INFO ok\n"])
    real, outages = getattr(owner, name), [UnreachableError("the API server is away")] * 2

    def answers(*given):
        if outages:
            raise outages.pop()
        return real(*given)

    monkeypatch.setattr(owner, name, answers)
    assert _follow(Session(Settings(kubeconfig=cluster.where.kubeconfig)), "my-run") == 0
    assert outages == []
    assert [record.message for record in caplog.records if "away" in record.message] == [
        "the API server is away; still trying"
    ]


# Completion


@pytest.fixture
def complete(api, cluster, home, monkeypatch):
    """What TAB offers for a line, as the shell's script asks for it."""

    def offers(line):
        monkeypatch.setenv("KUBECONFIG", cluster.where.kubeconfig)
        completion = ShellComplete(tspctl_command, {}, "tspctl", "_TSPCTL_COMPLETE")
        *words, last = line.split(" ")
        return [item.value for item in completion.get_completions(words, last) if item.type != "file"]

    return offers


def test_names_of_runs_and_jobs_are_completed(complete, api):
    api.objects |= {JOBS: [job(name="tsp-a"), job(name="tac-b")], INDEXED_JOBS: [indexed_job(name="tsp-features")]}
    assert complete("logs -f t") == ["tsp-a", "tac-b", "tsp-features"]
    assert complete("status tsp") == ["tsp-a", "tsp-features"]
    assert complete("status --backend local t") == []


def test_a_cluster_that_does_not_answer_holds_up_no_one_who_types(complete, api, monkeypatch):
    monkeypatch.setattr("cli.runs.argument.COMPLETION_TIMEOUT_SEC", 0.2)
    typed = threading.Event()
    answered_late = []
    api.objects[JOBS] = lambda *_: answered_late.append(typed.wait(600)) or (200, {"metadata": {}})
    assert complete("status t") == []
    assert answered_late == [], "completion waited for the cluster's answer"
    typed.set()


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Handshake status 403 Forbidden -+-+- {}", "missing permission: get pods/exec in namespace video"),
        ("Handshake status 500\nmore of it", "cannot run a command in pod my-run-master-0: Handshake status 500"),
    ],
)
def test_a_command_that_may_not_be_run_says_why(tspctl, api, tmp_path, monkeypatch, reason, message):
    serve_run(api, job("Created", "Running", gpus=1, annotations=stored(tmp_path)), [pod(0)])

    def refuse(*arguments, **more):
        raise kubernetes.client.ApiException(status=0, reason=reason)

    monkeypatch.setattr("kubernetes.stream.stream", refuse)
    ended = tspctl("exec", "my-run", "true")
    assert ended.code == 4
    assert message in ended.err
    assert "more of it" not in ended.err


def test_a_release_of_another_chart_blocks_a_name_and_is_no_run(tspctl, api, fake_helm):
    """Also if that chart is called as ours."""
    serve_release(api, "theirs", chart={"metadata": {"name": "tsp"}}, manifest="kind: ConfigMap\n")
    api.objects |= {path: [] for path in (JOBS, PODS, INDEXED_JOBS)}
    assert "theirs" not in tspctl("list", "--store", "s").out
    for command in (("status",), ("cancel",), ("resume",), ("delete", "--yes")):
        ended = tspctl(command[0], "theirs", *command[1:], "--store", "s")
        assert (ended.code, "no run 'theirs'" in ended.err) == (102, True), ended.err
    submitted = tspctl("data", "standardize", "/a", "/b", "--on-cluster", "--name", "theirs")
    assert submitted.code == 2
    assert "already has a Helm release 'theirs' of another chart (tsp): choose another --name" in submitted.err
    assert fake_helm.calls == []


def test_status_says_if_pods_outlived_their_job(tspctl, api):
    serve_release(api, "my-run")
    api.objects[PODS] = [pod(0), pod(1)]
    shown = tspctl("status", "my-run", "--store", "s")
    assert "its job was deleted by hand, and 2 pods are left of it" in shown.out
