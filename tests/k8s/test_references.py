"""What pods refer to is looked for before they are made."""

import base64

import pytest

from k8s.references import check_credentials, check_priority, check_references


def forbidden(method, query, body):
    return 403, {"message": "no"}


POD = {
    "serviceAccountName": "mine",
    "imagePullSecrets": [{"name": "pull"}],
    "containers": [
        {
            "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s3-login", "key": "a"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "maybe", "key": "b", "optional": True}}},
                {"name": "C", "value": "c"},
            ],
            "envFrom": [{"configMapRef": {"name": "more"}}],
        }
    ],
    "volumes": [
        {"name": "config", "configMap": {"name": "r-config"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "videos"}},
        {"name": "tmp", "emptyDir": {}},
    ],
}


def test_everything_a_pod_refers_to_is_looked_for(api, cluster):
    found = list(check_references(cluster, POD, own=["r-config"], queue="team"))
    assert [(item.what, item.message.split()[0], item.level) for item in found] == [
        ("configmap", "more", "error"),
        ("volume claim", "videos", "error"),
        ("secret", "pull", "error"),
        ("secret", "s3-login", "error"),
        ("serviceaccount", "mine", "error"),
        ("queue", "team", "error"),
    ]


def test_what_is_optional_or_another_kind_of_the_same_name_is_not_asked_for(api, cluster):
    pod = {
        "imagePullSecrets": [{"name": "same"}],
        "volumes": [
            {"name": "a", "configMap": {"name": "same"}},
            {"name": "b", "secret": {"secretName": "maybe", "optional": True}},
            {"name": "c", "configMap": {"name": "needed", "optional": False}},
        ],
    }
    api.objects[cluster.namespaced("v1", "secrets", "same")] = {"type": "kubernetes.io/dockerconfigjson"}
    api.objects[cluster.namespaced("v1", "configmaps", "same")] = {"data": {}}
    found = list(check_references(cluster, pod, own=[], queue=None))
    assert [(item.what, item.message.split()[0]) for item in found] == [("configmap", "needed")]


def test_each_priority_is_looked_for_whatever_became_of_the_other(api, cluster):
    api.objects["/apis/scheduling.k8s.io/v1/priorityclasses/high"] = forbidden
    labels = {"kueue.x-k8s.io/priority-class": "high"}
    found = list(check_priority(cluster, {"priorityClassName": "high"}, labels))
    assert [item.level for item in found] == ["warning", "error"]


def test_what_exists_is_fine_and_what_may_not_be_seen_is_said_to_be_so(api, cluster):
    for resource, name in (("configmaps", "more"), ("serviceaccounts", "mine")):
        api.objects[cluster.namespaced("v1", resource, name)] = {"metadata": {}}
    api.objects[cluster.namespaced("v1", "secrets", "pull")] = {"type": "kubernetes.io/dockerconfigjson"}
    api.objects[cluster.namespaced("v1", "secrets", "s3-login")] = forbidden
    claim = cluster.namespaced("v1", "persistentvolumeclaims", "videos")
    api.objects[claim] = {"status": {"phase": "Pending"}}
    assert [(item.level, item.message) for item in check_references(cluster, POD, own=["r-config"], queue=None)] == [
        ("warning", "videos is not bound to a volume yet: unless its storage class binds on first use, the pods wait "
         "for it"),
        ("warning", "s3-login: no permission to check that it exists in namespace video"),
    ]  # fmt: skip
    api.objects[claim] = {"status": {"phase": "Bound"}}
    assert len(list(check_references(cluster, POD, own=["r-config"], queue=None))) == 1
    api.objects[claim] = {"status": {"phase": "Lost"}}
    found = check_references(cluster, POD, own=["r-config"], queue=None)
    assert [item.message for item in found if item.level == "error"] == ["videos has lost its volume"]


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_a_queue_may_be_of_either_version_of_kueue(api, cluster, version):
    api.objects[cluster.namespaced(f"kueue.x-k8s.io/{version}", "localqueues", "team")] = {"metadata": {}}
    assert list(check_references(cluster, {}, own=[], queue="team")) == []


def test_a_secret_must_have_the_keys_that_the_pods_take_from_it(api, cluster):
    env = [
        {"valueFrom": {"secretKeyRef": {"name": "s3-login", "key": key, "optional": key == "token"}}}
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "token")
    ]
    api.objects[cluster.namespaced("v1", "secrets", "s3-login")] = {
        "data": {"AWS_ACCESS_KEY_ID": "eA==", "user": "eA=="}
    }
    (found,) = check_references(cluster, {"containers": [{"env": env}]}, own=[], queue=None)
    message = "s3-login lacks the key AWS_SECRET_ACCESS_KEY, which the pods refer to"
    assert (found.what, found.level, found.message) == ("secret", "error", message)


def test_a_secret_of_another_type_pulls_no_image(api, cluster):
    api.objects[cluster.namespaced("v1", "secrets", "pull")] = {"type": "Opaque"}
    (found,) = check_references(cluster, {"imagePullSecrets": [{"name": "pull"}]}, own=[], queue=None)
    assert found.message == (
        "pull is of type Opaque, which cannot be used to pull images: "
        "make it with 'kubectl create secret docker-registry'"
    )


CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
QUEUES_CLASSES = "/apis/kueue.x-k8s.io/v1beta2/workloadpriorityclasses"


@pytest.mark.parametrize(
    ("pod", "labels", "path", "kind"),
    [
        ({"priorityClassName": "high"}, {}, CLASSES, "PriorityClass"),
        ({}, {"kueue.x-k8s.io/priority-class": "high"}, QUEUES_CLASSES, "WorkloadPriorityClass"),
    ],
)
def test_a_priority_that_is_not_there_is_refused_and_one_that_may_not_be_seen_is_not(
    api, cluster, pod, labels, path, kind
):
    api.objects[f"{path}/high"] = lambda *_: (403, {"message": "no"})
    (unseen,) = check_priority(cluster, pod, labels)
    assert unseen.level == "warning"
    assert unseen.message.startswith("--priority high: no permission to check that this ")
    del api.objects[f"{path}/high"]
    (found,) = check_priority(cluster, pod, labels)
    assert (found.level, found.message) == ("error", f"--priority high: the cluster has no {kind} of that name")
    api.objects[f"{path}/high"] = {"metadata": {}}
    assert list(check_priority(cluster, pod, labels)) == []
    assert list(check_priority(cluster, {}, {})) == []


def queue_with(**condition):
    return {"metadata": {"name": "team"}, "status": {"conditions": [{"type": "Active", **condition}]}}


def test_a_queue_that_admits_nothing_is_told_before_a_run_waits_in_it(api, cluster):
    path = cluster.namespaced("kueue.x-k8s.io/v1beta1", "localqueues", "team")
    api.objects[path] = queue_with(
        status="False", reason="ClusterQueueIsInactive", message="Can't submit new workloads."
    )
    (found,) = check_references(cluster, {}, own=[], queue="team")
    assert (found.level, found.message) == (
        "warning",
        "team admits nothing (Can't submit new workloads): the run waits until an administrator changes that",
    )
    api.objects[path] = queue_with(status="True", reason="Ready", message="Can submit new workloads to clusterQueue")
    assert list(check_references(cluster, {}, own=[], queue="team")) == []


KEY = "AWS_SECRET_ACCESS_KEY"


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        (b"wJalrXUtnFEMI", None),
        (b"wJalrXUtnFEMI\n", "begins or ends with a line break or a space"),
        (b"wJalrXUtnFEMI\r\n", "begins or ends with a line break or a space"),
        (b" wJalrXUtnFEMI", "begins or ends with a line break or a space"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text"),
    ],
)
@pytest.mark.parametrize("key", [KEY, "secret-key"])
@pytest.mark.parametrize("optional", [True, False])
def test_credentials_that_no_server_accepts_are_refused_with_their_key(api, cluster, value, flaw, key, optional):
    data = {key: base64.b64encode(value).decode(), "ca.crt": base64.b64encode(b"PEM\n").decode()}
    api.objects[cluster.namespaced("v1", "secrets", "s3-login")] = {"data": data}
    source = {"secretKeyRef": {"name": "s3-login", "key": key, "optional": optional}}
    pods = [{"containers": [{"env": [{"name": KEY, "valueFrom": source}]}]}]
    if key == KEY:
        pods.append({"containers": [{"envFrom": [{"secretRef": {"name": "s3-login"}}]}]})
    for pod in pods:
        found = [(item.level, item.message.partition(": make")[0]) for item in check_credentials(cluster, pod)]
        assert found == ([("error", f"s3-login: its key {key} {flaw}")] if flaw else [])


def test_credentials_that_may_not_be_read_or_are_no_secrets_are_passed_over(api, cluster):
    api.objects[cluster.namespaced("v1", "secrets", "hidden")] = forbidden
    env = [{"name": KEY, "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}} for name in ("hidden", "absent")]
    assert list(check_credentials(cluster, {"containers": [{"env": [*env, {"name": KEY, "value": "x"}]}]})) == []
