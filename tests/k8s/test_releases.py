"""Whose a release is: raced, refused, interrupted and half removed."""

import base64
import gzip
import json
import os
import signal
import threading

import pytest

from k8s.helm import Helm
from k8s.names import PYTORCHJOBS
from k8s.release_record import INSTALL_LABEL
from tests.k8s.fake_api import SECRETS
from tests.k8s.racing import VALUES, install, race
from tests.k8s.serving import CONFIGMAPS, JOBS, MANIFEST, PODS, serve_release
from tests.k8s.storing_api import StoringApi
from tests.waiting import wait_until
from tsp.errors import ClusterError, ConfigError


@pytest.fixture
def api():
    server = StoringApi()
    yield server
    server.close()


@pytest.fixture
def caller(cluster):
    return Helm(cluster.where, "video")


def names_in(api):
    """Everything that was created and is there."""
    return sorted(path for path in api.objects if "/namespaces/video/" in path)


def check_race(api, found, config_of):
    for index, outcomes in found.items():
        winners = [number for number, outcome, _ in outcomes if outcome == "won"]
        losers = [(outcome, message) for _, outcome, message in outcomes if outcome != "won"]
        assert len(winners) == 1, (index, outcomes)
        assert {outcome for outcome, _ in losers} == {"ConfigError"}, losers
        assert all(f"namespace video already has a run 'run-{index}':" in message for _, message in losers)
        assert f"{JOBS}/run-{index}" in api.objects, "the winner's run was removed"
        assert config_of(api.objects[f"{CONFIGMAPS}/run-{index}-config"]) == winners[0], (
            "not the winner's configuration"
        )
        assert api.objects[f"{SECRETS}/sh.helm.release.v1.run-{index}.v1"]["metadata"]["labels"]["status"] == "deployed"


@pytest.mark.slow(seconds=20)
def test_of_eight_that_install_one_name_at_once_one_wins_and_its_run_lives(api, cluster, stub_helm):
    found = race(cluster.where.kubeconfig, processes=8, rounds=50)
    check_race(api, found, lambda item: json.loads(item["data"]["config.json"])["set"]["seed"])


def test_a_real_helm_races_as_the_stub_does(api, cluster, real_helm):
    found = race(cluster.where.kubeconfig, processes=4, rounds=2)
    check_race(api, found, lambda item: json.loads(item["data"]["config.json"])["request"]["set"]["seed"])


def test_a_release_carries_the_nonce_of_the_process_that_installed_it(api, releases, caller, real_helm):
    install(releases, caller)
    found = releases.find("r1")
    assert (found.revision, found.status, len(found.nonce)) == (1, "deployed", 16)
    assert releases.find_own("r1") == found
    assert releases.content(found)["config"] == VALUES


def test_the_same_name_twice_is_refused_and_the_first_release_left_alone(api, releases, caller, stub_helm):
    install(releases, caller)
    before = dict(api.objects)
    with pytest.raises(ConfigError, match="namespace video already has a run 'r1': choose another --name, or remove"):
        install(releases, caller, gpus=3)
    assert api.objects == before


def test_a_failed_installation_leaves_nothing_behind(api, releases, caller, stub_helm, monkeypatch):
    monkeypatch.setenv("HELM_STUB", "refused-after-configmap")
    with pytest.raises(ClusterError, match=r"helm install failed: admission said no$"):
        install(releases, caller)
    assert names_in(api) == []


def test_a_failed_installation_whose_clean_up_fails_tells_both(api, releases, caller, stub_helm, monkeypatch):
    monkeypatch.setenv("HELM_STUB", "refused-after-configmap")
    monkeypatch.setenv("HELM_STUB_UNINSTALL", "fails")
    with pytest.raises(ClusterError, match=r"admission said no; .*the server is on fire.*'tspctl delete r1'"):
        install(releases, caller)
    assert [found.status for found in releases.without_job([])] == ["failed"]
    monkeypatch.delenv("HELM_STUB_UNINSTALL")
    assert releases.remove(caller, "r1") is True
    assert names_in(api) == []


def test_a_helm_that_was_killed_halfway_is_cleaned_up(api, releases, caller, stub_helm, monkeypatch):
    monkeypatch.setenv("HELM_STUB", "killed-after-record")
    with pytest.raises(ClusterError, match="helm install failed"):
        install(releases, caller)
    assert names_in(api) == []


def test_ctrl_c_during_the_installation_leaves_nothing_behind(api, releases, caller, stub_helm, monkeypatch):
    monkeypatch.setenv("HELM_STUB", "slow")

    def interrupt():
        wait_until(lambda: f"{SECRETS}/sh.helm.release.v1.r1.v1" in api.objects, "Helm begins")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        install(releases, caller)
    assert names_in(api) == []


def test_a_release_that_was_upgraded_since_is_not_cleaned_up(api, releases, caller, stub_helm, monkeypatch):
    """Somebody else has taken it on: what it is now is theirs."""
    monkeypatch.setenv("HELM_STUB", "refused-after-configmap")
    install_it = caller.install

    def upgraded_meanwhile(*arguments, labels):
        try:
            install_it(*arguments, labels=labels)
        finally:
            first = api.objects[f"{SECRETS}/sh.helm.release.v1.r1.v1"]
            second = json.loads(json.dumps(first))
            second["metadata"] |= {"name": "sh.helm.release.v1.r1.v2"}
            second["metadata"]["labels"] |= {"version": "2"}
            api.objects[f"{SECRETS}/sh.helm.release.v1.r1.v2"] = second

    monkeypatch.setattr(caller, "install", upgraded_meanwhile)
    with pytest.raises(ConfigError, match="already has a run 'r1'"):
        install(releases, caller)
    assert f"{CONFIGMAPS}/r1-config" in api.objects


def test_another_charts_release_is_never_removed_or_listed(api, releases, caller, stub_helm):
    api.objects[SECRETS] = []
    serve_release(api, "grafana", chart={"metadata": {"name": "grafana"}})
    assert list(releases.without_job([])) == []
    assert releases.find_own("grafana") is None
    assert releases.remove(caller, "grafana") is False
    assert releases.find("grafana") is not None
    assert releases.why_taken("grafana") == (
        "namespace video already has a Helm release 'grafana' of another chart (grafana): choose another --name"
    )


def test_what_is_left_is_removed_by_its_labels_and_never_by_a_name_that_looks_like_it(api, releases, caller, stub_helm):
    """``tsp-test`` is the name of another run, not of what ``helm test tsp`` leaves."""
    install(releases, caller, "tsp")
    install(releases, caller, "tsp-test")
    labels = {"app.kubernetes.io/part-of": "tspctl", "app.kubernetes.io/instance": "tsp"}
    test_job = {"metadata": {"name": "tsp-test-0a1b", "labels": labels, "annotations": {"helm.sh/hook": "test"}}}
    api.objects["/apis/batch/v1/namespaces/video/jobs/tsp-test-0a1b"] = test_job
    foreign = {"metadata": {"name": "tsp-config-2", "labels": {"app.kubernetes.io/instance": "tsp"}}}
    api.objects[f"{CONFIGMAPS}/tsp-config-2"] = foreign
    # The record is lost: Helm knows nothing of the release any more.
    del api.objects[f"{SECRETS}/sh.helm.release.v1.tsp.v1"]
    assert releases.remove(caller, "tsp") is True
    assert names_in(api) == [
        f"{CONFIGMAPS}/tsp-config-2",
        f"{CONFIGMAPS}/tsp-test-config",
        f"{SECRETS}/sh.helm.release.v1.tsp-test.v1",
        f"{JOBS}/tsp-test",
    ]


def test_objects_whose_label_a_tool_has_overwritten_go_with_the_run(api, releases, caller, stub_helm):
    """As Argo CD does; it keeps no record of Helm's either."""
    for name in ("tsp", "tsp-test"):
        install(releases, caller, name)
        del api.objects[f"{SECRETS}/sh.helm.release.v1.{name}.v1"]
    for path in (f"{JOBS}/tsp", f"{CONFIGMAPS}/tsp-config"):
        api.objects[path]["metadata"]["labels"]["app.kubernetes.io/instance"] = "my-application"
    assert releases.remove(caller, "tsp") is True
    assert names_in(api) == [f"{CONFIGMAPS}/tsp-test-config", f"{JOBS}/tsp-test"]


def test_pods_whose_job_was_deleted_without_them_go_with_the_run(api, releases, caller, stub_helm):
    """``kubectl delete --cascade=orphan``: nothing else would ever end them. Those of a job go with it, in order."""
    install(releases, caller, "tsp")
    labels = {"app.kubernetes.io/part-of": "tspctl", "app.kubernetes.io/instance": "tsp"}
    owners = {
        "orphan": [],
        "owned": [{"kind": "PyTorchJob", "controller": True}],
        "claimed": [{"kind": "Workload"}],
    }
    for name, references in owners.items():
        metadata = {"name": name, "labels": labels, "ownerReferences": references}
        api.objects[f"{PODS}/{name}"] = {"metadata": metadata}
    api.objects[f"{PODS}/foreign"] = {"metadata": {"name": "foreign", "labels": {}}}
    assert releases.remove(caller, "tsp") is True
    assert [path for path in api.objects if path.startswith(PODS)] == [f"{PODS}/owned", f"{PODS}/foreign"]


@pytest.mark.parametrize(("chart", "goes"), [("tsp", True), ("grafana", False), (None, False)])
def test_the_record_of_a_run_that_helm_keeps_in_a_configmap_goes_with_it(api, releases, caller, stub_helm, chart, goes):
    """As HELM_DRIVER=configmap has it; it blocked the name for ever."""
    content = json.dumps({"chart": {"metadata": {"name": chart}}, "manifest": MANIFEST}).encode()
    name = "sh.helm.release.v1.tsp.v1"
    api.objects[f"{CONFIGMAPS}/{name}"] = {
        "metadata": {"name": name, "labels": {"owner": "helm", "name": "tsp", "version": "1", "status": "deployed"}},
        "data": {"release": base64.b64encode(gzip.compress(content)).decode() if chart else "bm8="},
    }
    assert releases.remove(caller, "tsp") is goes
    assert (f"{CONFIGMAPS}/{name}" in api.objects) is not goes


def test_what_the_cluster_lost_is_created_again_as_the_release_has_it(api, releases, caller, real_helm, cluster):
    install(releases, caller)
    before = api.objects.pop(f"{CONFIGMAPS}/r1-config")
    restored = releases.restore(releases.find("r1"), but=("PyTorchJob", "Job"))
    assert restored == ["ConfigMap r1-config"]
    again = api.objects[f"{CONFIGMAPS}/r1-config"]
    assert again["data"] == before["data"]
    assert again["metadata"]["annotations"]["meta.helm.sh/release-name"] == "r1"
    assert releases.restore(releases.find("r1"), but=("PyTorchJob", "Job")) == []
    assert cluster.get(cluster.namespaced(*PYTORCHJOBS, "r1"))["metadata"]["name"] == "r1"


def test_a_record_that_is_damaged_is_shown_as_a_release_without_content(api, releases):
    api.objects[SECRETS] = []
    serve_release(api, "r1", labels={"app.kubernetes.io/part-of": "tspctl", INSTALL_LABEL: "a"})
    api.objects[f"{SECRETS}/sh.helm.release.v1.r1.v1"]["data"]["release"] = "bm9uc2Vuc2U="
    (found,) = releases.without_job([])
    assert (found.name, found.nonce, releases.content(found)) == ("r1", "a", {})
