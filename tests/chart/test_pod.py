"""What a rank's pod may do, sees and holds."""

import json

import pytest

from cli.backends.cluster.status import trainer_of
from tests.chart.conftest import APP_VERSION, HelmError
from tsp.config.cards import NEEDS_GPU


def restricted_violations(spec):
    """What the restricted Pod Security Standard would refuse in a pod spec."""
    found = []
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        found += [key] if spec.get(key) else []
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [f"volume {volume['name']}" for volume in spec["volumes"] if not (set(volume) - {"name"}) <= allowed]
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container.get("securityContext", {})
        both = {**pod, **context}
        found += ["runAsNonRoot"] if both.get("runAsNonRoot") is not True else []
        found += ["runAsUser 0"] if both.get("runAsUser") == 0 else []
        found += (
            ["seccomp"] if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost") else []
        )
        found += ["escalation"] if context.get("allowPrivilegeEscalation") is not False else []
        found += ["capabilities"] if "ALL" not in context.get("capabilities", {}).get("drop", []) else []
        found += ["hostPort"] if any(port.get("hostPort") for port in container.get("ports", [])) else []
    return found


def test_the_check_below_sees_a_violation(render):
    spec = render(securityContext={"allowPrivilegeEscalation": True}).pod
    assert "escalation" in restricted_violations(spec)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"data": {"claim": "videos"}, "cache": {"claim": "cache"}, "store": {"uri": "s3://b", "caConfigMap": "ca"}},
        {"job": {"kind": "extract", "request": "{}", "gpu": True}},
    ],
)
def test_every_pod_meets_the_restricted_standard_with_a_read_only_root(render, values):
    for template in render(**values).templates:
        spec = template["spec"]
        assert restricted_violations(spec) == []
        assert spec["automountServiceAccountToken"] is False
        assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
        assert isinstance(spec["securityContext"]["runAsUser"], int)


def test_everything_that_is_written_has_a_volume(render):
    mounts = {mount["mountPath"]: mount for mount in render().container["volumeMounts"]}
    assert set(mounts) == {"/etc/tsp", "/dev/shm", "/tmp", "/cache"}
    assert mounts["/etc/tsp"]["readOnly"] is True


def test_shared_memory_lies_in_memory_and_is_limited(render):
    volumes = {volume["name"]: volume for volume in render(shm={"sizeLimit": "16Gi"}).pod["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}


def test_the_grace_period_covers_a_save(render):
    assert render().pod["terminationGracePeriodSeconds"] >= 120
    assert render(gracePeriodSeconds=45).pod["terminationGracePeriodSeconds"] == 45


@pytest.mark.parametrize(("values", "told"), [({}, True), ({"gpuResource": ""}, False), ({"requireGpu": False}, False)])
def test_a_pod_that_asks_for_a_gpu_is_told_that_the_cpu_is_no_substitute(render, values, told):
    env = {item["name"]: item.get("value") for item in render(**values).container["env"]}
    assert (env.get(NEEDS_GPU) == "1") is told


def test_credentials_come_from_the_existing_secret_alone(render):
    store = {"uri": "s3://b", "existingSecret": "s3-login", "secretKeys": {"accessKeyId": "user"}}
    rendered = render(store=store)
    env = {item["name"]: item for item in rendered.container["env"]}
    assert env["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"] == {"name": "s3-login", "key": "user"}
    secret = env["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "s3-login", "key": "AWS_SECRET_ACCESS_KEY"}
    assert env["AWS_SESSION_TOKEN"]["valueFrom"]["secretKeyRef"]["optional"] is True
    assert "Secret" not in rendered
    assert "s3-login" not in rendered.config


@pytest.mark.parametrize(
    "name",
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "db_password"],
)
def test_a_credential_in_clear_is_refused(render, name):
    with pytest.raises(
        HelmError, match=rf"extraEnv contains {name} in clear text: name a Secret in store\.existingSecret"
    ):
        render(extraEnv=[{"name": name, "value": "hidden"}])
    path = {"name": name, "value": "/secrets/file"}
    assert path in render(extraEnv=[path]).container["env"]
    safe = {"name": name, "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}
    assert safe in render(extraEnv=[safe]).container["env"]


def test_a_password_in_the_endpoint_is_refused(render):
    with pytest.raises(HelmError, match="endpointUrl"):
        render(store={"uri": "s3://b", "endpointUrl": "https://me:hidden@minio.example"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"pretrained": "https://me:hidden@host/w.pth"},
            "an address in the configuration contains a user name or password",
        ),
        (
            {"set": {"resume": "https://me:hidden@host/w.pth"}},
            "an address in the configuration contains a user name or password",
        ),
        (
            {"data": {"uri": "s3://KEY:hidden@bucket/x"}},
            "an address in the configuration contains a user name or password",
        ),
        (
            {"extraEnv": [{"name": "HTTPS_PROXY", "value": "http://me:hidden@proxy:3128"}]},
            "the address in extraEnv HTTPS_PROXY contains a user name or password: use valueFrom with a Secret",
        ),
    ],
)
def test_a_password_in_any_address_is_refused_without_repeating_it(render, values, message):
    with pytest.raises(HelmError, match=message) as refused:
        render(**values)
    assert "hidden" not in str(refused.value)


def test_variables_that_are_no_secrets_reach_the_pod(render):
    plain = [
        {"name": "TOKENIZERS_PARALLELISM", "value": "false"},
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {"name": "MAIL", "value": "me@example"},
    ]
    assert [item for item in render(extraEnv=plain).container["env"] if item in plain] == plain


def test_without_a_secret_no_credential_variable_is_set(render):
    assert not [item for item in render().container["env"] if item["name"].startswith("AWS_")]


def test_a_claim_with_the_data_is_mounted_and_becomes_the_data_root(render):
    rendered = render(data={"claim": "videos"})
    assert {"name": "data", "mountPath": "/data", "readOnly": True} in rendered.container["volumeMounts"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "videos"}} in rendered.pod["volumes"]
    assert json.loads(rendered.config)["request"]["data"] == "/data"


def test_a_folder_of_the_claim_can_be_the_data_root(render):
    rendered = render(data={"claim": "videos", "uri": "/data/thumos14"})
    assert json.loads(rendered.config)["request"]["data"] == "/data/thumos14"


def test_a_private_authority_is_mounted_where_the_config_says(render):
    rendered = render(store={"uri": "s3://b", "caConfigMap": "store-ca", "caKey": "root.pem"})
    assert {"name": "store-ca", "mountPath": "/etc/tsp-ca", "readOnly": True} in rendered.container["volumeMounts"]
    assert json.loads(rendered.config)["request"]["store"]["ca_bundle"] == "/etc/tsp-ca/root.pem"
    # for a whole configuration, which knows nothing of mounts
    assert {"name": "AWS_CA_BUNDLE", "value": "/etc/tsp-ca/root.pem"} in rendered.container["env"]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"repository": "registry.example/tsp"}, f"registry.example/tsp:{APP_VERSION}"),
        ({"repository": "registry.example/tsp", "tag": "dev"}, "registry.example/tsp:dev"),
        (
            {"repository": "registry.example/tsp", "tag": "dev", "digest": "sha256:" + "0" * 64},
            "registry.example/tsp@sha256:" + "0" * 64,
        ),
    ],
)
def test_the_image_is_named_by_digest_then_tag_then_the_charts_version(render, image, reference):
    container = render(image=image).container
    assert container["image"] == reference
    # So that run.json can say which image trained.
    assert {"name": "TSP_IMAGE", "value": reference} in container["env"]


def test_placement_and_extras_reach_the_pod(render):
    values = {
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "schedulerName": "bin-packing",
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
    }
    pod = render(**values, image={"pullSecrets": ["pull"]}).pod
    assert {key: pod[key] for key in values} == values
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_extra_environment_volumes_labels_and_annotations_reach_the_pod(render):
    rendered = render(
        numThreads=4,
        extraEnv=[{"name": "NCCL_DEBUG", "value": "INFO"}],
        extraEnvFrom=[{"secretRef": {"name": "more"}}],
        extraVolumes=[{"name": "scratch", "emptyDir": {}}],
        extraVolumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
        labels={"team": "video"},
        annotations={"note": "job"},
        podLabels={"cost": "a"},
        podAnnotations={"note": "pod"},
    )
    container, job = rendered.container, rendered["PyTorchJob"]
    assert {"name": "NCCL_DEBUG", "value": "INFO"} in container["env"]
    assert {"name": "TSP_NUM_THREADS", "value": "4"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "more"}}]
    assert {"name": "scratch", "mountPath": "/scratch"} in container["volumeMounts"]
    assert {"name": "scratch", "emptyDir": {}} in rendered.pod["volumes"]
    assert (job["metadata"]["labels"]["team"], job["metadata"]["annotations"]["note"]) == ("video", "job")
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["metadata"]
    assert (pod["labels"]["team"], pod["labels"]["cost"], pod["annotations"]["note"]) == ("video", "a", "pod")


def test_caches_can_be_limited_or_lie_on_a_claim(render):
    volumes = {
        volume["name"]: volume for volume in render(tmp={"sizeLimit": "1Gi"}, cache={"claim": "c"}).pod["volumes"]
    }
    assert volumes["tmp"]["emptyDir"] == {"sizeLimit": "1Gi"}
    assert volumes["cache"]["persistentVolumeClaim"] == {"claimName": "c"}


def test_the_account_has_no_token_and_can_be_somebody_elses(render):
    rendered = render(serviceAccount={"annotations": {"role": "writer"}})
    assert rendered["ServiceAccount"]["automountServiceAccountToken"] is False
    assert rendered["ServiceAccount"]["metadata"]["annotations"] == {"role": "writer"}
    assert rendered.pod["serviceAccountName"] == "my-run"
    own = render(serviceAccount={"create": False, "name": "trainer"})
    assert "ServiceAccount" not in own
    assert own.pod["serviceAccountName"] == "trainer"
    assert render(serviceAccount={"create": False}).pod["serviceAccountName"] == "default"


def test_helm_test_checks_the_store_as_a_pod_of_the_run_and_goes_by_itself(render):
    rendered = render(store={"uri": "s3://b/p", "existingSecret": "s3-login"})
    hook = rendered.test_hook
    (container,) = hook["spec"]["template"]["spec"]["containers"]
    assert hook["kind"] == "Job"
    assert hook["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert hook["spec"]["ttlSecondsAfterFinished"] > 0
    assert container["command"][:3] == ["python", "-m", "tsp.store.check"]
    assert json.loads(container["command"][3])["uri"] == "s3://b/p"
    assert "nvidia.com/gpu" not in container["resources"].get("limits", {})
    assert "AWS_SECRET_ACCESS_KEY" in {item["name"] for item in container["env"]}


@pytest.mark.parametrize(
    ("values", "owner"),
    [
        ({}, "namespace video"),
        ({"clusterName": "off"}, "namespace video of cluster off"),
        ({"clusterName": "2024"}, "namespace video of cluster 2024"),
    ],
)
@pytest.mark.parametrize("api", ["pytorchjob", "trainjob"])
def test_pods_and_tspctl_are_told_who_trains_the_run(render, values, owner, api):
    rendered = render(**values, job={"api": api})
    job = rendered["PyTorchJob" if api == "pytorchjob" else "TrainJob"]
    assert job["metadata"]["annotations"]["tspctl/owner"] == owner
    assert {"name": "TSP_OWNER", "value": owner} in rendered.container["env"]
    assert trainer_of(job) == owner
