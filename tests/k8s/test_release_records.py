"""Helm's records of releases: which is the newest, whose each is, and what it says."""

import base64
import gzip
import json

import pytest

from k8s.release_record import INSTALL_LABEL
from k8s.why_release import why_without_job
from tests.k8s.fake_api import SECRETS
from tests.k8s.serving import CONFIGMAPS, serve_release
from tsp.errors import ClusterError, ConfigError


def record(api, name="r1", **labels):
    """Have Helm's record of a release of ours."""
    serve_release(api, name, labels={"app.kubernetes.io/part-of": "tspctl", **labels})
    return api.objects[SECRETS][-1]["metadata"]


@pytest.mark.parametrize("versions", [("1", "2", "10"), ("10", "2", "1"), ("2", "10", "1")])
def test_the_newest_revision_of_each_release_counts_and_only_metadata_is_asked_for(api, releases, versions):
    for version in versions:
        record(api, "r1", version=version, status=f"status-{version}")
        record(api, "r2", version=version.replace("10", "9"), status="deployed")
    api.requests.clear()
    found = {release.name: release for release in releases.without_job([])}
    assert {name: release.revision for name, release in found.items()} == {"r1": 10, "r2": 9}
    assert (found["r1"].status, found["r1"].secret) == ("status-10", "sh.helm.release.v1.r1.v10")
    assert {request[3]["Accept"].split(";")[1] for request in api.requests} == {"as=PartialObjectMetadataList"}


def test_what_a_release_is_is_read_from_helms_labels_and_a_secret_that_only_looks_like_one_is_none(api, releases):
    kept = record(api, "kept", **{INSTALL_LABEL: "a"})
    for name, changes in {
        "nameless": {"labels": {"version": "1"}},
        "no-number": {"labels": {"name": "no-number", "version": "one"}},
        "other": {"labels": {"name": "another", "version": "1"}},
        "later": {"labels": {"name": "later", "version": "2"}},
        "bare": {"labels": None},
    }.items():
        record(api, name).update(changes)
    (found,) = releases.without_job([])
    assert (found.name, found.revision, found.status, found.nonce) == ("kept", 1, "deployed", "a")
    assert found.created.isoformat() == "2030-01-01T00:00:00+00:00"
    assert "part-of" not in repr(found)
    del kept["creationTimestamp"], kept["labels"]["status"]
    (found,) = releases.without_job([])
    assert (found.created, found.status) == (None, "unknown")
    assert list(releases.without_job(["kept"])) == []


@pytest.mark.parametrize(
    ("labels", "content", "is_own"),
    [
        ({"app.kubernetes.io/part-of": "tspctl"}, {"chart": None}, True),
        ({}, {"chart": {"metadata": {"name": "tsp"}}}, True),
        ({}, {"chart": {"metadata": {"name": "tsp"}}, "manifest": "kind: ConfigMap\nmetadata: {name: a}\n"}, False),
        ({}, {"chart": {"metadata": {"name": "tsp"}}, "manifest": None}, False),
        ({}, {"chart": {"metadata": {"name": "tsq"}}}, False),
        ({}, {"chart": {"metadata": {"name": "aaa"}}}, False),
        ({"app.kubernetes.io/part-of": "zzz"}, {"chart": {"metadata": None}}, False),
        ({"app.kubernetes.io/part-of": "aaa"}, {"chart": None}, False),
    ],
)
def test_a_release_is_ours_by_its_label_or_else_by_its_chart(api, releases, labels, content, is_own):
    serve_release(api, "r1", labels=labels, **content)
    assert (releases.find_own("r1") is not None) is is_own


def test_there_is_no_release_where_there_is_none(releases, api):
    assert (releases.find("r1"), releases.find_own("r1")) == (None, None)


def test_who_may_list_secrets_but_not_read_them_sees_no_broken_releases(api, releases):
    """They are asked for their charts, those of others too."""
    serve_release(api, "theirs")
    api.objects[f"{SECRETS}/sh.helm.release.v1.theirs.v1"] = lambda *_: (403, {"message": "no"})
    assert list(releases.without_job([])) == []


def test_who_may_not_read_secrets_sees_no_broken_releases(api, releases):
    api.objects[SECRETS] = lambda *_: (403, {"message": "no"})
    assert list(releases.without_job([])) == []


@pytest.mark.parametrize("content", [[], 5, None])
def test_a_record_of_another_form_is_empty(api, releases, content):
    secret = record(api)
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    api.objects[f"{SECRETS}/{secret['name']}"]["data"]["release"] = packed
    found = releases.find("r1")
    assert (releases.content(found), releases.objects_of(found)) == ({}, [])


def test_only_kinds_of_the_chart_are_restored_and_those_that_are_left_out_are_not(api, releases, cluster):
    kinds = ("ConfigMap", "Secret", "ServiceAccount")
    objects = [{"apiVersion": "v1", "kind": kind, "metadata": {"name": "r1"}} for kind in kinds]
    serve_release(api, "r1", manifest="\n---\n".join(json.dumps(item) for item in objects))
    api.objects[CONFIGMAPS] = lambda method, query, body: (201, body)
    assert releases.restore(releases.find("r1"), but=("ServiceAccount",)) == ["ConfigMap r1"]


BY_HAND = "its job was deleted by hand: continue with 'tspctl resume r1', or "


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            "pending-install",
            "its installation is in progress or was interrupted: if no other command is working on it, ",
        ),
        ("failed", "its installation failed: "),
        ("uninstalling", "its removal was interrupted: "),
        (
            "uninstalled",
            "it was uninstalled, and Helm has kept its record (an interrupted resume, or --keep-history): continue "
            "with 'tspctl resume r1', "
            "or ",
        ),
        *((status, BY_HAND) for status in ("deployed", "pending-upgrade", "superseded", "unknown")),
    ],
)
def test_a_release_without_a_job_says_how_that_came(api, releases, status, said):
    record(api, status=status)
    (found,) = releases.without_job([])
    assert why_without_job(found).startswith(f"{said}remove it with 'tspctl delete r1'")


def test_pods_that_outlived_their_job_are_told_of(api, releases):
    record(api)
    (found,) = releases.without_job([])
    told = "its job was deleted by hand, and 1 pod is left of it: continue with 'tspctl resume r1'"
    assert why_without_job(found, 1).startswith(told)


class FailingHelm:
    """Fails to install, and leaves the record that it is given; ``removed`` are the releases it uninstalled."""

    def __init__(self, leave):
        self.leave, self.removed = leave, []

    def install(self, *_, labels):
        self.leave(labels[INSTALL_LABEL])
        raise ClusterError("admission said no")

    def uninstall(self, name):
        self.removed.append(name)


@pytest.mark.parametrize(
    ("nonce", "version", "removed", "error"),
    [
        ("5" * 16, "1", ["r1"], "^admission said no$"),
        ("5" * 16, "2", [], "already has a run 'r1'"),
        ("5" * 16, "0", [], "already has a run 'r1'"),
        ("4" * 16, "1", [], "already has a run 'r1'"),
        ("6" * 16, "1", [], "already has a run 'r1'"),
        (None, "1", [], "already has a run 'r1'"),
        ("", "", [], "^admission said no$"),
    ],
)
def test_what_a_failed_installation_left_is_removed_if_this_process_made_it(
    api, releases, monkeypatch, nonce, version, removed, error
):
    """Whatever numbers two processes drew: those of the other may be the lower or the higher."""
    monkeypatch.setattr("k8s.releases.secrets.token_hex", lambda num_bytes: "5" * 2 * num_bytes)
    made = []

    def leave(own):
        made.append(own)
        if version:
            labels = {} if nonce is None else {INSTALL_LABEL: "".join(list(nonce))}
            record(api, version=version, **labels)

    helm = FailingHelm(leave)
    with pytest.raises(ClusterError if removed or not version else ConfigError, match=error):
        releases.install(helm, "r1", None, {})
    assert (helm.removed, made) == (removed, ["5" * 16])
