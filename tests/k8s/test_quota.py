"""Whether all pods of a run together fit the quotas of a namespace; what pods count for is the API server's own sum."""

import pytest

from k8s import admission
from k8s.quota import check_quotas, pod_usage
from tests.k8s.fake_api import QUOTAS
from tests.k8s.findings import forbidden
from tests.k8s.serving import PODS

GPU, GPUS = "nvidia.com/gpu", "requests.nvidia.com/gpu"


def resources(requests=None, limits=None):
    return {"resources": {"requests": requests or {}, "limits": limits or {}}}


def pod(gpus=1, **spec):
    return {"metadata": {}, "spec": {"containers": [resources(limits={GPU: str(gpus)})], **spec}}


def replica(count, gpus=1):
    return {"replicas": count, "template": pod(gpus)}


def of_kind(kind, version, spec):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "r", "labels": {}}, "spec": spec}


def training(workers=3):
    replicas = {"Master": replica(1), "Worker": replica(workers)}
    return of_kind("PyTorchJob", "kubeflow.org/v1", {"pytorchReplicaSpecs": replicas})


TRAINER = "trainer.kubeflow.org/v1alpha1"
REPLICATED = {"replicatedJobs": [{"template": {"spec": {"template": pod()}}}]}
RUNTIME = of_kind("TrainingRuntime", TRAINER, {"mlPolicy": {"numNodes": 4}, "template": {"spec": REPLICATED}})
TRAINJOB = of_kind("TrainJob", TRAINER, {"runtimeRef": {}, "trainer": {"numNodes": 4}})
SHARDS = of_kind("Job", "batch/v1", {"completions": 9, "parallelism": 4, "template": pod()})
FOUR_PODS = ([training()], [RUNTIME, TRAINJOB], [SHARDS])


def quota(hard, used=None, **spec):
    status = {"hard": hard, "used": used or dict.fromkeys(hard, "0")}
    return {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}, "status": status}


def found(api, cluster, objects, *quotas):
    api.objects[QUOTAS] = list(quotas)
    return [(item.level, item.message) for item in admission.check_pods(cluster, objects)]


@pytest.mark.parametrize("objects", FOUR_PODS)
@pytest.mark.parametrize(
    ("allowed", "used", "level"),
    [("3", "0", "error"), ("3", "3", "error"), ("8", "5", "warning"), ("4", "4", "warning"), ("8", "4", None)],
)
def test_all_pods_of_a_run_are_held_against_a_quota(api, cluster, objects, allowed, used, level):
    said = found(api, cluster, objects, quota({GPUS: allowed}, {GPUS: used}))
    assert [item for item, _ in said] == ([level] if level else [])


def test_the_quota_what_is_asked_and_what_is_left_are_named(api, cluster):
    memory = {"memory": "1536Mi", "cpu": "100m"}
    run = training()
    for item in run["spec"]["pytorchReplicaSpecs"].values():
        item["template"]["spec"]["containers"].append(resources(requests=memory))
    hard = {GPUS: "8", "requests.memory": "64Gi", "requests.cpu": "400m", "pods": "100"}
    used = {GPUS: "6", "requests.memory": "60Gi", "requests.cpu": "0", "pods": "1"}
    assert found(api, cluster, [run], quota(hard, used)) == [
        (
            "warning",
            f"the run needs requests.memory 6Gi, where 4Gi of 64Gi are left; {GPUS} 4, where 2 of 8 are left: "
            "some pods wait until others have ended",
        )
    ]
    assert found(api, cluster, [run], quota({GPUS: "3", "requests.cpu": "350m"})) == [
        (
            "error",
            f"the run needs more than it allows in all (requests.cpu 0.4 of 350m; {GPUS} 4 of 3): "
            "request less, or have an administrator raise it",
        )
    ]


@pytest.mark.parametrize(
    ("objects", "key", "number"),
    [
        (FOUR_PODS[0], "pods", 4),
        (FOUR_PODS[1], "count/pods", 4),
        (FOUR_PODS[0], "services", 4),
        (FOUR_PODS[1], "services", 1),
        (FOUR_PODS[1], "count/jobsets.jobset.x-k8s.io", 1),
        (FOUR_PODS[1], "count/jobs.batch", 1),
    ],
)
def test_what_controllers_create_is_counted(api, cluster, objects, key, number):
    assert found(api, cluster, objects, quota({key: str(number)})) == []
    ((level, message),) = found(api, cluster, objects, quota({key: "9"}, {key: str(10 - number)}))
    assert (level, f"{key} {number}, where {number - 1} of 9 are left" in message) == ("warning", True)


@pytest.mark.parametrize(
    "key", ["count/pytorchjobs.kubeflow.org", "configmaps", "count/configmaps", "secrets", "count/secrets"]
)
def test_without_room_for_what_helm_creates_the_installation_would_fail(api, cluster, key):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "r"}}
    assert list(check_quotas([quota({key: "5"}, {key: "4"})], [config, training()], [])) == []
    (finding,) = check_quotas([quota({key: "5"}, {key: "5"})], [config, training()], [])
    assert (finding.what, finding.level) == ("quota team", "error")
    assert f"no room for another of {key} (all 5 are used): delete runs that have ended" in finding.message


PRIORITY = {"scopeName": "PriorityClass"}
HIGH = {"priorityClassName": "high"}
OTHERS = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["other"]}]}}
SOFT = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}


@pytest.mark.parametrize(
    ("scope", "counted", "passed_over"),
    [
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 9}, {}),
        ({"scopes": ["NotTerminating"]}, {}, {"activeDeadlineSeconds": 9}),
        ({"scopes": ["BestEffort"]}, {}, {"containers": [resources(limits={"cpu": "1"})]}),
        ({"scopes": ["NotBestEffort"]}, {"initContainers": [resources({"memory": "1Gi"})]}, {}),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {"affinity": OTHERS}, {"affinity": SOFT}),
        ({"scopes": ["PriorityClass", "NotTerminating"]}, HIGH, {**HIGH, "activeDeadlineSeconds": 0}),
        ({"scopes": ["SomethingNew"]}, None, {}),
        *(
            ({"scopeSelector": {"matchExpressions": [{**PRIORITY, **term}]}}, counted, passed_over)
            for term, counted, passed_over in [
                ({"operator": "In", "values": ["high"]}, HIGH, {}),
                ({"operator": "NotIn", "values": ["high"]}, {}, HIGH),
                ({"operator": "Exists"}, HIGH, {}),
                ({"operator": "DoesNotExist"}, {}, HIGH),
            ]
        ),
    ],
)
def test_a_quota_counts_the_pods_in_its_scope(scope, counted, passed_over):
    one = quota({"pods": "1"}, **scope)
    assert counted is None or [item.level for item in check_quotas([one], [], [(pod(**counted), 2)])] == ["error"]
    assert list(check_quotas([one], [], [(pod(**passed_over), 2)])) == []


def test_a_pod_counts_for_what_the_api_server_counts():
    """The sums are those that Kubernetes 1.33 puts down in the status of a quota for this pod."""
    main = resources({"cpu": "500m", "memory": "1Gi"}, {"memory": "2Gi", "ephemeral-storage": "10Gi", GPU: "2"})
    sidecar = {**resources({"cpu": "100m"}, {"cpu": "200m"}), "restartPolicy": "Always"}
    first, last = resources({"cpu": "3"}), resources({"cpu": "1500m"}, {"memory": "4Gi"})
    template = {"spec": {"storageClassName": "fast", **resources({"storage": "20Gi"})}}
    usage = pod_usage(
        pod(
            containers=[main, resources({"cpu": "250m"})],
            initContainers=[first, sidecar, last],
            overhead={"cpu": "50m", "memory": "64Mi"},
            volumes=[{"ephemeral": {"volumeClaimTemplate": template}}, {"emptyDir": {}}],
        )
    )
    gib = 2**30
    assert {key: pytest.approx(amount) for key, amount in usage.items()} == {
        **dict.fromkeys(("pods", "count/pods"), 1),
        **dict.fromkeys(("cpu", "requests.cpu"), 3.05),
        **dict.fromkeys(("memory", "requests.memory"), 4 * gib + 2**26),
        **dict.fromkeys(("ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage"), 10 * gib),
        "limits.cpu": 0.25,
        "limits.memory": 4 * gib + 2**26,
        GPUS: 2,
        **dict.fromkeys(("persistentvolumeclaims", "count/persistentvolumeclaims"), 1),
        "fast.storageclass.storage.k8s.io/persistentvolumeclaims": 1,
        **dict.fromkeys(("requests.storage", "fast.storageclass.storage.k8s.io/requests.storage"), 20 * gib),
    }


def test_sums_of_tenths_do_not_exceed_a_quota_that_they_fill(api, cluster):
    small = pod(containers=[resources({"cpu": "100m"})])
    assert list(check_quotas([quota({"requests.cpu": "300m"})], [], [(small, 3)])) == []


def test_defaults_of_the_namespace_count(api, cluster):
    """A LimitRange, a RuntimeClass or a webhook gives pods more than the chart does."""

    def with_limits(method, query, body):
        body["spec"]["containers"][0]["resources"] = {"limits": {"memory": "8Gi"}}
        return 201, body

    api.objects[PODS] = with_limits
    ((level, message),) = found(api, cluster, [SHARDS], quota({"limits.memory": "30Gi"}))
    assert (level, "limits.memory 32Gi of 30Gi" in message) == ("error", True)


def test_without_permission_to_create_pods_the_chart_s_own_are_counted(api, cluster):
    api.objects[PODS] = forbidden
    ((level, _),) = found(api, cluster, [training()], quota({GPUS: "3"}))
    assert level == "error"


EXCEEDED = f'pods "r-0" is forbidden: exceeded quota: team, requested: {GPUS}=1, used: {GPUS}=4, limited: {GPUS}=4'


def test_a_quota_that_is_used_up_is_reported_once(api, cluster):
    api.objects[PODS] = lambda *_: (403, {"message": EXCEEDED})
    ((level, message),) = found(api, cluster, [training()], quota({GPUS: "4"}, {GPUS: "4"}))
    assert (level, f"{GPUS} 4, where 0 of 4 are left" in message) == ("warning", True)


def test_without_permission_to_read_quotas_a_single_pod_is_judged(api, cluster):
    api.objects |= {QUOTAS: forbidden, PODS: lambda *_: (403, {"message": EXCEEDED})}
    assert [item.level for item in admission.check_pods(cluster, [SHARDS])] == ["warning"]
