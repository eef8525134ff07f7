"""The cluster itself, with an image that has nothing of ours in it: what every other test here stands on."""

import json
import re

import pytest
from botocore.exceptions import ClientError

from tests.e2e.kubectl import Kubectl, Object, true_conditions, wait_for
from tests.e2e.places import Cluster
from tests.e2e.s3 import S3Server

pytestmark = pytest.mark.e2e

POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod_spec(image: str, script: str, *, container: str = "pytorch", gpus: int = 0) -> Object:
    return {
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": 2,
        "containers": [
            {
                "name": container,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
                "securityContext": CONTAINER_SECURITY,
                "resources": {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {},
            }
        ],
    }


def pytorch_job(name: str, master: Object, worker: Object | None = None, **replicas: int) -> Object:
    specs = {"Master": master} if worker is None else {"Master": master, "Worker": worker}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name},
        "spec": {
            "pytorchReplicaSpecs": {
                role: {"replicas": replicas.get(role, 1), "restartPolicy": "Never", "template": {"spec": spec}}
                for role, spec in specs.items()
            }
        },
    }


def run_pod(kubectl: Kubectl, image: str, script: str) -> str:
    """Logs of a pod that runs ``script`` and has ended."""
    spec = {**pod_spec(image, script), "restartPolicy": "Never"}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec})
    wait_for(
        lambda: kubectl.get("pod", "probe")["status"]["phase"] in ("Succeeded", "Failed"),
        what="end of the pod",
        describe=lambda: kubectl.run("describe", "pod", "probe"),
    )
    return kubectl.run("logs", "probe")


def test_the_node_is_ready_and_offers_gpus(cluster: Cluster, gpus: int):
    node = cluster.kubectl.get("node", cluster.node)
    assert "Ready" in true_conditions(node)
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == str(gpus)


def test_a_pod_finds_services_by_name_and_reaches_the_s3_server(cluster: Cluster, kubectl: Kubectl, s3: S3Server):
    script = f"nslookup kubernetes.default.svc.cluster.local && wget -S -O- {s3.endpoint_url}/{s3.bucket} 2>&1; true"
    logs = run_pod(kubectl, cluster.busybox, script)
    service = cluster.kubectl.within("default").get("service", "kubernetes")["spec"]["clusterIP"]
    assert service in logs
    assert re.search(r"HTTP/1\.[01] 40[03]", logs), f"an unsigned request must be refused\n{logs}"


def test_the_s3_server_refuses_a_wrong_secret(s3: S3Server):
    s3.keys()  # which the right one opens
    with pytest.raises(ClientError, match=r"403|SignatureDoesNotMatch|AccessDenied"):
        s3.client(secret_key="wrong").list_objects_v2(Bucket=s3.bucket)


def test_the_namespace_enforces_the_restricted_standard(cluster: Cluster, kubectl: Kubectl):
    spec = pod_spec(cluster.busybox, "true")
    del spec["securityContext"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": spec}
    refused = kubectl.try_run("create", "-f", "-", stdin=json.dumps(pod))
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_master_and_worker_meet_under_the_restricted_standard(cluster: Cluster, kubectl: Kubectl, gpus: int):
    greeting = "rank $RANK of $WORLD_SIZE"
    master = pod_spec(cluster.busybox, f"echo {greeting}; nc -l -p $MASTER_PORT", gpus=1)
    worker = pod_spec(
        cluster.busybox, f"until echo {greeting} | nc $MASTER_ADDR $MASTER_PORT; do sleep 1; done", gpus=1
    )
    kubectl.apply(pytorch_job("pair", master, worker))
    wait_for(
        lambda: "Succeeded" in true_conditions(kubectl.get("pytorchjob", "pair")),
        what="success of the job",
        describe=lambda: kubectl.run("describe", "pytorchjobs,pods"),
    )
    assert kubectl.run("logs", "pair-master-0") == "rank 0 of 2\nrank 1 of 2\n"
    init = kubectl.get("pod", "pair-worker-0")["spec"]["initContainers"][0]
    assert init["securityContext"]["runAsNonRoot"] is True


def test_a_job_that_asks_for_more_gpus_than_the_node_has_stays_pending(cluster: Cluster, kubectl: Kubectl, gpus: int):
    kubectl.apply(pytorch_job("greedy", pod_spec(cluster.busybox, "true", gpus=gpus + 1)))
    event = wait_for(
        lambda: next((e for e in kubectl.items("events") if e["reason"] == "FailedScheduling"), None),
        what="FailedScheduling event",
    )
    assert "Insufficient nvidia.com/gpu" in event["message"]


@pytest.mark.parametrize(
    ("name", "container", "masters", "complaint"),
    [
        ("two-masters", "pytorch", 2, "must be 1"),
        ("other-container", "main", 1, "at least one container with name pytorch"),
        ("1-digit-first", "pytorch", 1, "DNS-1035"),
    ],
)
def test_the_operators_webhook_refuses_a_bad_job(
    cluster: Cluster, kubectl: Kubectl, name: str, container: str, masters: int, complaint: str
):
    job = pytorch_job(name, pod_spec(cluster.busybox, "true", container=container), Master=masters)
    refused = kubectl.try_run("create", "-f", "-", stdin=json.dumps(job))
    assert refused.returncode != 0
    assert "admission webhook" in refused.stderr
    assert complaint in refused.stderr


def test_jobs_go_on_through_a_restart_of_the_api_server(cluster: Cluster, kubectl: Kubectl):
    if not cluster.ours:
        pytest.skip("only the API server of a cluster of ours may be restarted")
    kubectl.apply(pytorch_job("steady", pod_spec(cluster.busybox, "sleep 8")))
    wait_for(
        lambda: true_conditions(kubectl.get("pytorchjob", "steady")) & {"Running", "Succeeded"},
        what="running job",
    )
    cluster.control("restart", "apiserver")
    wait_for(lambda: kubectl.try_run("get", "--raw", "/readyz").returncode == 0, what="API server")
    wait_for(
        lambda: "Succeeded" in true_conditions(kubectl.get("pytorchjob", "steady")),
        what="success",
    )
    assert kubectl.get("pod", "steady-master-0")["status"]["containerStatuses"][0]["restartCount"] == 0
