"""What is found before anything is created."""

import pytest

from k8s import preflight
from k8s.preflight import refuse
from tsp.errors import ClusterError
from tsp.run.status import Finding

KINDS = {"resources": [{"name": "pytorchjobs", "kind": "PyTorchJob"}]}
TRAINER_KINDS = {"resources": [{"name": "trainjobs"}, {"name": "trainingruntimes"}]}
DEPLOYMENTS = "/apis/apps/v1/deployments"
NAMESPACE = "/api/v1/namespaces/video"
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def forbidden(method, query, body):
    return 403, {"message": "no"}


def levels(findings):
    return [(item.what, item.level) for item in findings]


def operator(*, ready=1, arguments=()):
    spec = {"template": {"spec": {"containers": [{"args": list(arguments)}]}}}
    metadata = {"name": "training-operator", "namespace": "kubeflow", "uid": "1"}
    return {"metadata": metadata, "spec": spec, "status": {"availableReplicas": ready}}


def test_the_namespace_must_be_there_but_need_not_be_readable(api, cluster):
    api.objects["/version"] = {"gitVersion": "v1.32.0"}
    assert levels(preflight.check_server(cluster)) == [("API server", "ok"), ("namespace", "error")]
    api.objects[NAMESPACE] = forbidden
    assert levels(preflight.check_server(cluster)) == [("API server", "ok"), ("namespace", "ok")]
    api.objects[NAMESPACE] = {"metadata": {}}
    assert list(preflight.check_server(cluster))[1].message == "video"


def test_the_operator_must_be_ready_as_far_as_can_be_seen(api, cluster):
    api.objects["/apis/kubeflow.org/v1"] = KINDS
    api.objects[DEPLOYMENTS] = forbidden
    assert levels(preflight.check_job_api(cluster, "pytorchjob")) == [("training operator", "ok")]
    api.objects[DEPLOYMENTS] = [operator()]
    assert next(preflight.check_job_api(cluster, "pytorchjob")).message == "kubeflow/training-operator runs"
    api.objects[DEPLOYMENTS] = [operator(ready=0)]
    assert levels(preflight.check_job_api(cluster, "pytorchjob")) == [("training operator", "error")]


def test_kubeflow_trainer_must_be_ready_and_have_jobset(api, cluster):
    api.objects["/apis/trainer.kubeflow.org/v1alpha1"] = TRAINER_KINDS
    api.objects[DEPLOYMENTS] = []
    (finding,) = preflight.check_job_api(cluster, "trainjob")
    assert (finding.level, "JobSet, which the cluster lacks" in finding.message) == ("error", True)
    api.objects["/apis/jobset.x-k8s.io/v1alpha2"] = {"resources": []}
    assert levels(preflight.check_job_api(cluster, "trainjob")) == [("Kubeflow Trainer", "ok")]
    api.objects[DEPLOYMENTS] = [operator(ready=0)]
    assert levels(preflight.check_job_api(cluster, None)) == [("Kubeflow Trainer", "error")]


OLD = {"/apis/kubeflow.org/v2alpha1": {"resources": [{"name": "trainjobs"}]}}
NEWER = {
    "/apis/trainer.kubeflow.org": {"versions": [{"groupVersion": "trainer.kubeflow.org/v2"}]},
    "/apis/trainer.kubeflow.org/v2": {"resources": [{"name": "trainjobs"}]},
}
OLDER = {
    "/apis/kubeflow.org": {"versions": [{"groupVersion": "kubeflow.org/v1beta2"}]},
    "/apis/kubeflow.org/v1beta2": {"resources": [{"name": "pytorchjobs"}]},
}
BOTH = {"/apis/kubeflow.org/v1": KINDS, "/apis/trainer.kubeflow.org/v1alpha1": TRAINER_KINDS}


@pytest.mark.parametrize(
    ("served", "api_asked", "said"),
    [
        ({}, None, "serves neither PyTorchJob nor TrainJob: have an administrator install"),
        ({}, "pytorchjob", "serves neither PyTorchJob nor TrainJob: have an administrator install"),
        (OLD, None, "serves TrainJob kubeflow.org/v2alpha1, which is older than Kubeflow Trainer 2.0"),
        ({"/apis/kubeflow.org/v1": KINDS, **OLD}, "trainjob", "kubeflow.org/v2alpha1, which is older"),
        (NEWER, None, "TrainJob as trainer.kubeflow.org/v2, not as trainer.kubeflow.org/v1alpha1: update tspctl"),
        (NEWER, "trainjob", "serves TrainJob as trainer.kubeflow.org/v2, not as"),
        ({"/apis/kubeflow.org/v1": KINDS, **NEWER}, "trainjob", "serves TrainJob as trainer.kubeflow.org/v2, not"),
        (OLDER, None, "PyTorchJob as kubeflow.org/v1beta2, not as kubeflow.org/v1: have an administrator update"),
        (OLDER, "pytorchjob", "serves PyTorchJob as kubeflow.org/v1beta2"),
        ({"/apis/kubeflow.org/v1": KINDS}, "trainjob", "does not serve TrainJob, but PyTorchJob: leave out --job-api"),
        (
            {"/apis/trainer.kubeflow.org/v1alpha1": TRAINER_KINDS},
            "pytorchjob",
            "does not serve PyTorchJob, but TrainJob: leave out --job-api",
        ),
    ],
)
def test_a_cluster_without_the_kind_of_job_is_refused_with_what_would_help(api, cluster, served, api_asked, said):
    api.objects |= served
    (finding,) = preflight.check_job_api(cluster, api_asked)
    assert (finding.what, finding.level) == ("training", "error")
    assert said in finding.message


def test_doctor_looks_at_each_controller_that_the_cluster_has(api, cluster):
    api.objects |= {**BOTH, DEPLOYMENTS: [operator()], "/apis/jobset.x-k8s.io/v1alpha2": {}}
    assert levels(preflight.check_job_api(cluster, None)) == [("training operator", "ok"), ("Kubeflow Trainer", "ok")]


@pytest.mark.parametrize(
    ("gang", "groups", "arguments", "api_asked", "said"),
    [
        ("", [], [], "pytorchjob", None),
        ("kueue", [], [], "pytorchjob", None),
        ("volcano", [], [], "trainjob", "serves no scheduling.volcano.sh: have an administrator install volcano"),
        ("coscheduling", ["scheduling.volcano.sh"], [], "trainjob", "serves no scheduling.x-k8s.io"),
        ("volcano", ["scheduling.volcano.sh"], [], "trainjob", None),
        (
            "volcano",
            ["scheduling.volcano.sh"],
            [],
            "pytorchjob",
            "kubeflow/training-operator runs without gang scheduling",
        ),
        ("volcano", ["scheduling.volcano.sh"], ["--gang-scheduler-name=volcano"], "pytorchjob", None),
    ],
)
def test_a_gang_scheduler_that_is_not_there_is_refused(api, cluster, gang, groups, arguments, api_asked, said):
    api.objects["/apis"] = {"groups": [{"name": name} for name in groups]}
    api.objects[DEPLOYMENTS] = [operator(arguments=arguments)]
    found = [finding.message for finding in preflight.check_gang(cluster, gang, api_asked)]
    assert len(found) == (said is not None)
    assert all(said in message for message in found)


def test_missing_permissions_are_all_named_at_once(api, cluster):
    def review(method, query, body):
        asked = body["spec"]["resourceAttributes"]
        return 201, {"status": {"allowed": asked["resource"] not in ("secrets", "nodes") and asked["verb"] != "patch"}}

    api.objects[REVIEW] = review
    permissions, nodes = preflight.check_permissions(cluster, ["pytorchjob", "trainjob"])
    assert permissions.message == (
        "missing: patch pytorchjobs.kubeflow.org, patch trainjobs.trainer.kubeflow.org, "
        "patch trainingruntimes.trainer.kubeflow.org, patch jobs.batch, create secrets, delete secrets, get secrets, "
        "list secrets, update secrets in namespace video; have an administrator bind the Role of k8s/role.yaml"
    )
    assert (permissions.level, nodes.level) == ("error", "warning")


def test_full_rights_are_fine(api, cluster):
    api.objects[REVIEW] = lambda method, query, body: (201, {"status": {"allowed": True}})
    assert {level for _, level in levels(preflight.check_permissions(cluster))} == {"ok"}


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


def test_the_api_server_judges_every_object_without_creating_it(api, cluster):
    job = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "r"}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "r"}}
    api.objects[cluster.namespaced("v1", "serviceaccounts")] = {}
    api.objects[cluster.namespaced("kubeflow.org/v1", "pytorchjobs")] = lambda *_: (422, {"message": "no Master"})
    (finding,) = preflight.check_objects(cluster, [account, job])
    assert finding == Finding("PyTorchJob r", "error", "the API server would refuse it: no Master (HTTP 422)")
    assert all(query == {"dryRun": "All", "fieldValidation": "Strict"} for _, _, query, _ in api.requests)


def test_an_object_of_somebody_else_that_has_the_name_is_named_with_what_to_do(api, cluster):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "r"}}
    message = 'serviceaccounts "r" already exists'
    api.objects[cluster.namespaced("v1", "serviceaccounts")] = lambda *_: (409, {"message": message})
    (finding,) = preflight.check_objects(cluster, [account])
    assert (finding.what, finding.level) == ("ServiceAccount r", "error")
    assert "choose another --name, or remove it with 'kubectl delete serviceaccount r'" in finding.message


def test_the_first_error_is_raised_and_warnings_are_logged(caplog):
    findings = [Finding("a", "ok", "x"), Finding("b", "warning", "careful"), Finding("c", "error", "stop")]
    with pytest.raises(ClusterError, match="c: stop"):
        refuse(findings)
    assert [record.message for record in caplog.records] == ["b: careful"]


def test_the_role_in_the_documentation_grants_what_is_asked_for():
    from pathlib import Path

    import yaml

    role = yaml.safe_load((Path(__file__).resolve().parents[2] / "k8s" / "role.yaml").read_text())
    granted = {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    needed = {right for rights in preflight.NEEDED_FOR.values() for right in rights} | set(preflight.NEEDED)
    for verb, group, resource, subresource in needed:
        assert (verb, group, f"{resource}/{subresource}" if subresource else resource) in granted


@pytest.mark.parametrize(
    ("silent", "controller"), [("pytorchjob", "training operator"), ("trainjob", "Kubeflow Trainer")]
)
def test_controllers_that_do_not_answer_are_found_by_whoever_may_submit(api, cluster, monkeypatch, silent, controller):
    monkeypatch.setattr("k8s.client._RETRY_AFTER_SEC", ())
    kinds = {
        "pytorchjob": ("kubeflow.org/v1", "pytorchjobs"),
        "trainjob": ("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    }
    for kind, resource in kinds.items():
        answer = (500, 'failed calling webhook "a.b": refused') if kind == silent else (403, "denied the request")
        api.objects[cluster.namespaced(*resource)] = lambda *_, answer=answer: (answer[0], {"message": answer[1]})
    (finding,) = preflight.check_webhooks(cluster, kinds)
    assert (finding.what, finding.level) == (controller, "error")
    assert finding.message.startswith("the webhook a.b does not answer")
    assert {query["dryRun"] for method, _, query, _ in api.requests if method == "POST"} == {"All"}


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


def test_a_missing_right_to_a_part_of_a_resource_is_named_with_it(api, cluster):
    def review(method, query, body):
        asked = body["spec"]["resourceAttributes"]
        return 201, {"status": {"allowed": asked.get("subresource") != "log"}}

    api.objects[REVIEW] = review
    permissions, nodes = preflight.check_permissions(cluster)
    assert permissions.message.startswith("missing: get pods/log in namespace video")
    assert nodes.level == "ok"


def test_workers_are_expected_unless_told_otherwise(api, cluster):
    api.objects[NAMESPACE] = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    api.objects[DEPLOYMENTS] = []
    assert levels(preflight.check_security_standard(cluster)) == [("security standard", "warning")]
