"""Stopping, resuming and removing runs and jobs of a cluster."""

import json
from dataclasses import replace

import pytest

from k8s.values import with_attempts
from tests.k8s.fake_api import SECRETS
from tests.k8s.objects import indexed_job, job, pod, shard
from tests.k8s.serving import INDEXED_JOBS, PODS, goes_after, path_of, serve_release, serve_run, suspending
from tsp.config.run import from_json, to_json
from tsp.config.store import StoreConfig
from tsp.errors import ClusterError, ConfigError, NoSuchRunError
from tsp.run.ownership import HeldElsewhereError, take
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store


def stored(tmp_path):
    return {"tspctl/store": json.dumps({"uri": f"file://{tmp_path}/store"})}


def test_cancelling_takes_the_pods_away_and_writes_the_outcome_down(api, backend, tmp_path):
    found = job("Running", annotations=stored(tmp_path))
    serve_run(api, found, [pod(0), pod(1)])
    patches = suspending(api, found)
    backend.cancel("my-run", grace_sec=5)
    expected = {"annotations": {"tspctl/stopped": "cancelled"}}
    assert patches == [{"metadata": expected, "spec": {"runPolicy": {"suspend": True}}}]
    assert backend.status("my-run").state == "cancelled"
    outcome = StoredRun(open_store(StoreConfig(uri=f"file://{tmp_path}/store")), "my-run").read_outcome()
    assert (outcome.state, outcome.exit_code) == ("cancelled", 143)
    with pytest.raises(ConfigError, match="has already ended"):
        backend.cancel("my-run", grace_sec=5)


def test_pods_that_do_not_go_in_time_are_killed(api, backend, tmp_path):
    found = job("Running")
    serve_run(api, found, [pod(0)])
    suspending(api, found, pods_go=False)
    backend.suspend("my-run", grace_sec=0.05)
    deleted = [(path, query) for method, path, query, _ in api.requests if method == "DELETE"]
    assert deleted == [(f"{PODS}/my-run-master-0", {"gracePeriodSeconds": "0"})]


def _resumed(found):
    found["metadata"]["annotations"] = {"tspctl/stopped": None}


def _suspended(found):
    found["metadata"]["annotations"] = {"tspctl/stopped": "suspended"}


def _submitted_anew(found):
    found["metadata"]["uid"] = "another"


def _deleted(found):
    found["metadata"]["labels"] = {}


@pytest.mark.parametrize("pods_go", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [(_resumed, "resumed"), (_suspended, "suspended"), (_submitted_anew, "deleted"), (_deleted, "deleted")],
)
def test_a_run_that_another_command_has_changed_meanwhile_is_left_alone(
    api, backend, tmp_path, monkeypatch, change, said, pods_go
):
    """Its pods are those of a run that goes on, and its outcome is another."""
    found = job("Running", annotations=stored(tmp_path))
    serve_run(api, found, [pod(0)])
    suspending(api, found, pods_go=False)
    looks = iter([[pod(0)], [] if pods_go else [pod(0)]])

    def look(*_):
        there = next(looks, [pod(0)])
        if found["spec"]["runPolicy"].get("suspend"):
            change(found)
        return 200, {"metadata": {}, "items": there}

    api.objects[PODS] = look
    with pytest.raises(ConfigError, match=f"my-run was {said} by another command"):
        backend.cancel("my-run", grace_sec=0.05)
    assert not [path for method, path, *_ in api.requests if method == "DELETE"]
    assert StoredRun(open_store(StoreConfig(uri=f"file://{tmp_path}/store")), "my-run").read_outcome() is None


def test_pods_that_have_ended_but_are_not_gone_yet_are_waited_for(api, backend):
    found = job("Running")
    serve_run(api, found, [pod(0)])
    suspending(api, found, pods_go=False)
    going = pod(0, "Failed")
    going["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    looks = iter([[pod(0)], [going], [going]])
    api.objects[PODS] = lambda *_: (200, {"metadata": {}, "items": next(looks, [])})
    backend.suspend("my-run", grace_sec=30)
    assert next(looks, None) is None, "it returned while a pod was still there"


def test_pods_have_the_grace_of_their_own_before_they_are_killed(api, backend, monkeypatch):
    """Killing a rank within its grace period would lose the upload that it is busy with."""
    given = []
    monkeypatch.setattr(
        backend._runs, "wait_without_pods", lambda name, timeout_sec, meanwhile: given.append(timeout_sec) or True
    )
    for own in ({"terminationGracePeriodSeconds": 300}, {}):
        found, one = job("Running"), pod(0)
        serve_run(api, found, [one, pod(1)])
        one["spec"] |= own
        suspending(api, found)
        backend.cancel("my-run", grace_sec=None)
    assert given == [315.0, 45.0]


def test_a_run_in_a_queue_is_stopped_through_kueue(api, backend):
    found = job("Running", labels={"kueue.x-k8s.io/queue-name": "team"})
    serve_run(api, found)
    suspending(api, found)
    workloads = "/apis/kueue.x-k8s.io/v1beta1/namespaces/video/workloads"
    api.objects[workloads] = [{"metadata": {"name": "w"}}]
    sent = []
    api.objects[f"{workloads}/w"] = lambda method, query, body: sent.append(body) or (200, {})
    backend.suspend("my-run", grace_sec=1)
    assert sent == [{"spec": {"active": False}}]
    assert found["spec"]["runPolicy"]["suspend"] is False


def test_a_suspended_run_is_resumed_by_the_operator(api, backend, config):
    found = job("Suspended", suspend=True, annotations={"tspctl/stopped": "suspended"})
    serve_run(api, found)
    patches = suspending(api, found)
    backend.resume("my-run", config)
    expected = {"annotations": {"tspctl/stopped": None}}
    assert patches == [{"metadata": expected, "spec": {"runPolicy": {"suspend": False}}}]


def test_a_failed_run_is_resumed_by_a_new_release_with_the_same_values_and_as_many_attempts(
    api, backend, fake_helm, config
):
    """After the run was given up for its attempts, the same bound would end it at once."""
    goes_after(api, job("Failed"), looks=3)
    fake_helm.has_release()
    serve_release(api, "my-run", config={"gpus": 2, "set": {"seed": 1}})
    run = StoredRun(open_store(config.store), "my-run")
    for _ in range(config.max_attempts):
        run.start_attempt()
    backend.resume("my-run", config)
    assert [call["arguments"][0] for call in fake_helm.calls] == ["template", "uninstall", "install"]
    assert json.loads(fake_helm.calls[-1]["text"]) == {"gpus": 2, "set": {"seed": 1, "max_attempts": 40}}


def test_a_whole_configuration_gets_its_attempts_and_nothing_else(config):
    values = with_attempts({"gpus": 4, "config": to_json(config)}, 33)
    assert values["gpus"] == 4
    assert from_json(values["config"]) == replace(config, max_attempts=33)


def test_a_run_whose_job_is_gone_is_resumed_by_a_new_release(api, backend, real_helm, config, monkeypatch, caplog):
    installed = []
    monkeypatch.setattr(backend._helm, "install", lambda name, chart, values, labels: installed.append((name, values)))
    StoredRun(open_store(config.store), "my-run").start_attempt()
    api.objects[PODS] = []
    backend.resume("my-run", config)
    ((name, values),) = installed
    assert (name, from_json(values["config"]).max_attempts) == ("my-run", 21)
    assert "no record of my-run: it gets the image, queue and chart values that are set here" in caplog.text


def test_a_new_release_waits_for_the_pods_of_the_old_one(api, backend, fake_helm, config, monkeypatch):
    monkeypatch.setattr("cli.backends.cluster.lifecycle._GONE_TIMEOUT_SEC", 0.05)
    goes_after(api, job("Failed"), looks=1, pods=[pod(0)])
    fake_helm.has_release()
    serve_release(api, "my-run", config={"gpus": 2})
    with pytest.raises(ClusterError, match="pods of my-run are still there after"):
        backend.resume("my-run", config)
    assert fake_helm.calls[-1]["arguments"][0] == "uninstall"


def test_a_run_of_another_cluster_with_a_namespace_of_this_name_is_not_trained_here_too(api, backend, config):
    run = StoredRun(open_store(config.store), "my-run")
    run.create(config, None)
    take(run, "namespace video of cluster 0a1b2c3d")
    run.start_attempt()
    api.objects["/api/v1/namespaces/kube-system"] = {"metadata": {"uid": "of this one"}}
    with pytest.raises(
        HeldElsewhereError, match="is being trained by namespace video of cluster 0a1b2c3d, which wrote"
    ):
        backend.resume("my-run", config)
    assert "PATCH" not in [method for method, *_ in api.requests]


def test_what_neither_cluster_nor_store_knows_cannot_be_resumed(api, backend):
    with pytest.raises(NoSuchRunError, match="no run 'my-run' in namespace video or in its store"):
        backend.resume("my-run", None)


def test_a_running_run_cannot_be_resumed_or_deleted(api, backend, config):
    serve_run(api, job("Running"), [pod(0)])
    with pytest.raises(ConfigError, match="is running: there is nothing to resume"):
        backend.resume("my-run", config)
    with pytest.raises(ConfigError, match="stop it first with 'tspctl cancel my-run'"):
        backend.delete("my-run")


def test_deleting_uninstalls_the_release_and_deletes_what_a_test_left(api, backend, fake_helm, monkeypatch):
    goes_after(api, job("Succeeded"), looks=3)
    fake_helm.has_release()
    serve_release(api, "my-run")
    uninstall = backend._helm.uninstall
    monkeypatch.setattr(backend._helm, "uninstall", lambda name: uninstall(name) and api.objects[SECRETS].clear())
    left = indexed_job(name="my-run-test-1a2b", annotations={"helm.sh/hook": "test"})
    left["metadata"]["labels"]["app.kubernetes.io/instance"] = "my-run"
    api.objects[INDEXED_JOBS] = [left, indexed_job(name="my-run-test")]
    api.objects[f"{INDEXED_JOBS}/my-run-test-1a2b"] = left
    backend.delete("my-run")
    assert fake_helm.calls[-1]["arguments"][:2] == ["uninstall", "my-run"]
    deleted = [path for method, path, *_ in api.requests if method == "DELETE"]
    assert deleted == [f"{INDEXED_JOBS}/my-run-test-1a2b"], "another run, called so, was deleted too"


@pytest.mark.parametrize("found", [job("Failed"), indexed_job("Failed", name="my-run")], ids=["run", "job"])
def test_what_helm_has_no_record_of_is_removed_by_its_labels(api, backend, fake_helm, found):
    goes_after(api, found, looks=2)
    api.objects[path_of(found).rpartition("/")[0]] = [found]
    backend.delete("my-run")
    assert fake_helm.calls == []
    assert [path for method, path, *_ in api.requests if method == "DELETE"] == [path_of(found)]


# Auxiliary jobs


def test_a_job_is_suspended_and_resumed_by_its_controller(api, backend):
    found = indexed_job()
    serve_run(api, found, [shard(0), shard(1)])
    patches = suspending(api, found)
    backend.suspend("my-job", grace_sec=1)
    assert backend.status("my-job").state == "suspended"
    backend.resume("my-job", None)
    assert [patch["spec"] for patch in patches] == [{"suspend": True}, {"suspend": False}]
    assert patches[1]["metadata"] == {"annotations": {"tspctl/stopped": None}}


def test_a_failed_job_is_resumed_by_a_new_release_with_the_same_values(api, backend, fake_helm):
    goes_after(api, indexed_job("Failed"), looks=3)
    fake_helm.has_release()
    serve_release(api, "my-job", config={"job": {"kind": "extract"}})
    backend.resume("my-job", None)
    assert json.loads(fake_helm.calls[-1]["text"]) == {"job": {"kind": "extract"}}
