"""The controllers of training jobs: which the cluster has, whether they run, answer and know of gangs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.job_apis import JOB_APIS, Api, no_api, served_apis
from k8s.names import Object
from tsp.errors import ClusterError, UnreachableError
from tsp.run.status import Finding

logger = logging.getLogger(__name__)

_OPERATOR_SELECTORS = ("control-plane=kubeflow-training-operator", "app.kubernetes.io/name=training-operator")
_TRAINER_SELECTORS = ("app.kubernetes.io/name in (trainer,kubeflow-trainer),app.kubernetes.io/component=manager",)
_GANG_GROUPS = {"volcano": "scheduling.volcano.sh", "coscheduling": "scheduling.x-k8s.io"}

_GANG_FLAG = "--gang-scheduler-name"


def check_job_api(cluster: Cluster, api: Api | None) -> Iterator[Finding]:
    """Does the cluster serve the kind of training job, and does its controller run?

    Args: api, None: whichever the cluster serves.
    """
    served = served_apis(cluster)
    if not served or (api is not None and api not in served):
        yield Finding("training", "error", no_api(cluster, api, served))
        return
    for one in served if api is None else (api,):
        yield from _check_operator(cluster) if one == "pytorchjob" else _check_trainer(cluster)


def _check_operator(cluster: Cluster) -> Iterator[Finding]:
    yield _running("pytorchjob", find_operator(cluster))


def _check_trainer(cluster: Cluster) -> Iterator[Finding]:
    try:
        cluster.get("/apis/jobset.x-k8s.io/v1alpha2")
    except NotFoundError:
        message = "it needs JobSet, which the cluster lacks: have an administrator install JobSet"
        yield Finding("Kubeflow Trainer", "error", message)
        return
    yield _running("trainjob", _deployment(cluster, _TRAINER_SELECTORS))


def _running(api: Api, deployment: Object | None) -> Finding:
    what, kind = JOB_APIS[api].controller, JOB_APIS[api].kind
    if deployment is None:
        return Finding(what, "ok", f"{kind} is served (its controller is not visible)")
    if not (deployment.get("status") or {}).get("availableReplicas"):
        return Finding(what, "error", f"{_address(deployment)} has no ready pod: runs would wait for it")
    return Finding(what, "ok", f"{_address(deployment)} runs")


def find_operator(cluster: Cluster) -> dict[str, Any] | None:
    """The training operator's Deployment; None where it is not to be seen."""
    return _deployment(cluster, _OPERATOR_SELECTORS)


def _deployment(cluster: Cluster, selectors: Iterable[str]) -> dict[str, Any] | None:
    for selector in selectors:
        try:
            found = next(cluster.items("/apis/apps/v1/deployments", labelSelector=selector), None)
        except (ForbiddenError, NotFoundError):
            return None
        if found is not None:
            return found
    return None


def check_webhooks(cluster: Cluster, apis: Iterable[Api]) -> Iterator[Finding]:
    """Do the webhooks that validate training jobs answer? Every user who may submit can check this, without seeing the
    controllers' pods. Nothing is created, and the submitted object need not be valid.
    """
    for api in apis:
        try:
            cluster.judge(
                {
                    "apiVersion": JOB_APIS[api].resource[0],
                    "kind": JOB_APIS[api].kind,
                    "metadata": {"name": "tspctl-doctor"},
                    "spec": JOB_APIS[api].least_spec,
                }
            )
        except UnreachableError as error:
            yield Finding(JOB_APIS[api].controller, "error", str(error))
        except ClusterError as error:
            logger.debug("%s", error)


def served_gangs(cluster: Cluster) -> set[str]:
    """Gang schedulers whose kinds the cluster serves."""
    known = {item["name"] for item in cluster.get("/apis").get("groups") or []}
    return {gang for gang, group in _GANG_GROUPS.items() if group in known}


def check_gang(cluster: Cluster, gang: str, api: Api) -> Iterator[Finding]:
    """Is the scheduler there that is to start all pods of a run or none?"""
    group = _GANG_GROUPS.get(gang)
    if group is None:
        return
    if gang not in served_gangs(cluster):
        message = f"--gang {gang}: the cluster serves no {group}: have an administrator install {gang}"
        yield Finding("gang scheduling", "error", f"{message}, or leave out --gang")
        return
    operator = find_operator(cluster) if api == "pytorchjob" else None
    if operator is not None and _GANG_FLAG not in str(operator["spec"]["template"]["spec"]):
        advice = f"have an administrator start it with {_GANG_FLAG}, or leave out --gang"
        yield Finding(
            "gang scheduling", "error", f"--gang {gang}: {_address(operator)} runs without gang scheduling: {advice}"
        )


def _address(operator: Object) -> str:
    return f"{operator['metadata'].get('namespace')}/{operator['metadata']['name']}"
