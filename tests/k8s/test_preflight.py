"""What is found before anything is created."""

import pytest

from k8s import preflight
from k8s.preflight import refuse
from tests.k8s.findings import DEPLOYMENTS, forbidden, levels, operator
from tsp.errors import ClusterError
from tsp.run.status import Finding

NAMESPACE = "/api/v1/namespaces/video"


def test_the_namespace_must_be_there_but_need_not_be_readable(api, cluster):
    api.objects["/version"] = {"gitVersion": "v1.32.0"}
    api.objects[NAMESPACE] = forbidden
    assert levels(preflight.check_server(cluster)) == [("API server", "ok"), ("namespace", "ok")]
    del api.objects[NAMESPACE]
    assert levels(preflight.check_server(cluster)) == [("API server", "ok"), ("namespace", "error")]
    api.objects[NAMESPACE] = {"metadata": {}}
    assert list(preflight.check_server(cluster))[1].message == "video"
    api.objects[NAMESPACE] = {"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}}
    found = list(preflight.check_server(cluster))[1]
    assert (found.level, "video is being deleted" in found.message) == ("error", True)


@pytest.mark.parametrize(
    ("labels", "deployments", "workers", "level"),
    [
        ({}, [], True, "ok"),
        ({"pod-security.kubernetes.io/enforce": "baseline"}, [], True, "ok"),
        ({"pod-security.kubernetes.io/enforce": "restricted"}, [], False, "ok"),
        ({"pod-security.kubernetes.io/enforce": "restricted"}, [], True, "warning"),
        ({"pod-security.kubernetes.io/enforce": "restricted"}, [operator()], True, "warning"),
        (
            {"pod-security.kubernetes.io/enforce": "restricted"},
            [operator(arguments=["--pytorch-init-container-template-file=/etc/init.yaml"])],
            True,
            "ok",
        ),
    ],
)
def test_a_restricted_namespace_needs_the_operators_own_template(api, cluster, labels, deployments, workers, level):
    api.objects[NAMESPACE] = {"metadata": {"labels": labels}}
    api.objects[DEPLOYMENTS] = deployments
    assert levels(preflight.check_security_standard(cluster, workers=workers)) == [("security standard", level)]


def test_the_first_error_is_raised_and_warnings_are_logged(caplog):
    findings = [Finding("a", "ok", "x"), Finding("b", "warning", "careful"), Finding("c", "error", "stop")]
    with pytest.raises(ClusterError, match="c: stop"):
        refuse(findings)
    assert [record.message for record in caplog.records] == ["b: careful"]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({}, None),
        ({"istio-injection": "enabled"}, "istio-injection=enabled"),
        ({"istio-injection": "disabled"}, None),
        ({"linkerd.io/inject": "ingress"}, None),
        ({"kuma.io/sidecar-injection": "enabled", "istio-injection": "disabled"}, "kuma.io/sidecar-injection=enabled"),
    ],
)
def test_a_namespace_that_injects_containers_is_told(api, cluster, labels, found):
    api.objects[NAMESPACE] = {"metadata": {"labels": labels}}
    (finding,) = preflight.check_sidecars(cluster)
    assert (finding.level != "ok", found is None or found in finding.message) == (found is not None, True)


def test_nothing_is_said_of_containers_in_a_namespace_that_may_not_be_read(api, cluster):
    api.objects[NAMESPACE] = lambda *_: (403, {"message": "no"})
    assert list(preflight.check_sidecars(cluster)) == []


def test_workers_are_expected_unless_told_otherwise(api, cluster):
    api.objects[NAMESPACE] = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    api.objects[DEPLOYMENTS] = []
    assert levels(preflight.check_security_standard(cluster)) == [("security standard", "warning")]
