"""A run as the chart installs it, with an operator in miniature, and how it gets into a state."""

import json

from tests.k8s.fake_api import SECRETS
from tests.k8s.objects import condition, pod
from tests.k8s.serving import CONFIGMAPS, JOBS, PODS
from tsp.config.run import to_json

NAME = "my-run"
RECORD = f"{SECRETS}/sh.helm.release.v1.{NAME}.v1"
JOB = f"{JOBS}/{NAME}"
CONFIGMAP = f"{CONFIGMAPS}/{NAME}-config"


def install_run(api, cluster, config, tmp_path):
    from k8s.helm import Chart, Helm
    from k8s.releases import Releases

    Releases(cluster).install(Helm(cluster.where, "video"), NAME, Chart(reference="c"), {"config": to_json(config)})
    job = api.objects[JOB]
    store = {"uri": f"file://{tmp_path}/store"}
    job["metadata"]["annotations"] = {"tspctl/store": json.dumps(store)}
    volumes = [{"name": "config", "configMap": {"name": f"{NAME}-config"}}]
    job["spec"]["pytorchReplicaSpecs"]["Master"]["template"] = {"spec": {"volumes": volumes}}
    serve_changes(api, job)
    return job


def serve_changes(api, job):
    """Patches are merged, as the API server does; suspending takes the pods away, as the operator does."""
    is_there = [True]

    def answer(method, query, body):
        if method == "PATCH" and "kind" in body:
            is_there[0] = True
        if not is_there[0]:
            return (201, body) if method == "PATCH" else (404, {"message": "not found"})
        if method == "PATCH":
            job["spec"]["runPolicy"].update(body.get("spec", {}).get("runPolicy", {}))
            annotations = {**job["metadata"]["annotations"], **body["metadata"]["annotations"]}
            job["metadata"]["annotations"] = {key: value for key, value in annotations.items() if value is not None}
            if job["spec"]["runPolicy"]["suspend"]:
                api.objects[PODS] = []
        if method == "DELETE":
            is_there[0] = False
            del api.objects[JOB]
            api.objects[PODS] = []
        return 200, job

    api.objects[JOB] = answer
    api.objects[JOBS] = lambda method, query, body: (
        _create(api, body)
        if method == "POST"
        else (200, {"metadata": {}, "items": [job] if is_there[0] and JOB in api.objects else []})
    )


def _create(api, body):
    api.objects[JOB] = body
    return 201, body


def at_work(api, job):
    job["status"] = {"conditions": [condition("Created"), condition("Running")]}
    running = pod(0)
    running["spec"]["containers"] = [{"name": "pytorch"}]
    running["metadata"]["labels"]["app.kubernetes.io/instance"] = NAME
    api.objects[PODS] = [running]


def ended(kind):
    def arrange(api, job):
        job["status"] = {"conditions": [condition(kind)]}

    return arrange


def stopped(how):
    def arrange(api, job):
        job["spec"]["runPolicy"]["suspend"] = True
        job["metadata"]["annotations"]["tspctl/stopped"] = how

    return arrange
