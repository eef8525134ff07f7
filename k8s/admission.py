"""What the API server's dry run says of a release: schema, webhooks, policies, quotas, Kueue. Nothing is created.

Controllers create pods only after ``submit`` has returned, and a refused pod does not fail its job. So the pods of a
release are validated too, where the user may create pods.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from k8s.answers import ForbiddenError
from k8s.client import Cluster
from k8s.job_apis import JOB_APIS
from k8s.names import KIND_LABEL, PART_OF, QUEUE_LABEL, RUN_LABEL, Object, is_in_queue, pod_templates_of
from k8s.quantity import parse_quantity
from k8s.quota import check_quotas, read_quotas
from k8s.status import is_suspended
from k8s.train_jobs import lacks_runtime
from tsp.errors import ClusterError
from tsp.run.status import Finding

logger = logging.getLogger(__name__)

_INTEGRATIONS = {"Job": "batch/job", **{row.kind: row.integration for row in JOB_APIS.values()}}
_OUR_LABELS = (PART_OF.partition("=")[0], RUN_LABEL, KIND_LABEL)
"""By which runs and their pods are found."""
_OUR_ANNOTATIONS = "tspctl/"
_NO_DRY_RUN = "does not support dry run"
"""Of webhooks with side effects: whatever they match can only be created."""
_EXISTS = "already exists"
_QUOTA = re.compile(r"exceeded quota: ([^,]+), requested: (.*?), used: .*?, limited: (.*)")


def check_objects(cluster: Cluster, objects: Iterable[Object], *, replacing: bool = False) -> Iterator[Finding]:
    """Would the API server accept the objects: schema, webhooks, quota of objects, permissions?

    Args: replacing, whether objects of their names will have gone before.
    """
    for item in objects:
        try:
            judged = cluster.judge(item)
        except ClusterError as error:
            # What exists was judged before. Installing creates a runtime first, and has the TrainJob judged then.
            passed = replacing and _EXISTS in str(error)
            if not passed and not lacks_runtime(item, error) and _NO_DRY_RUN not in str(error):
                yield Finding(_called(item), "error", _refused(item, error))
            continue
        yield from check_judged(item, judged)


def check_judged(item: Object, judged: Object) -> Iterator[Finding]:
    """Do Kueue, webhooks and policies leave an object one that starts, and that is found again?

    Args: judged, the object as a dry run returns it.
    """
    if is_ignored_by_kueue(judged):
        yield Finding(_called(item), "error", _explain_ignored(judged, item["kind"]))
    if is_held_without_queue(item, judged):
        yield Finding(
            _called(item),
            "error",
            "the cluster suspends it, and nothing would start it: Kueue holds jobs without a queue there; give "
            "--queue (see 'kubectl get localqueues')",
        )
    yield from _changed(item, judged)


def check_pods(cluster: Cluster, objects: Sequence[Object]) -> Iterator[Finding]:
    """Would the API server accept the pods: Pod Security Standard, LimitRange, webhooks and policies, and all of them
    together: quotas?

    A user who may not create pods cannot ask; ``status`` then shows what the controller is told.
    """
    quotas, may_ask = read_quotas(cluster), True
    pods: list[tuple[Object, int]] = []
    for item in objects:
        for template, count in pod_templates_of(item):
            pod: Object = _pod(item, template)
            try:
                judged = cluster.judge(pod) if may_ask else pod
            except ForbiddenError as error:
                logger.debug("%s", error)
                may_ask, judged = False, pod
            except ClusterError as error:
                judged = pod
                # Of all pods together, the quotas themselves say more.
                if _NO_DRY_RUN not in str(error) and not (quotas and "exceeded quota" in str(error)):
                    yield _refused_pod(item, str(error))
            else:
                yield from _changed(pod, judged)
            pods.append((judged, count))
    yield from check_quotas(quotas or (), objects, pods)


def is_ignored_by_kueue(judged: Object) -> bool:
    """Whether no controller manages a job that names a queue: it would start at once and ignore every quota.

    Args: judged, the job as a server-side dry run returns it: Kueue's webhook suspends what it manages.
    """
    return is_in_queue(judged) and not is_suspended(judged)


def is_held_without_queue(item: Object, judged: Object) -> bool:
    """Whether a webhook suspends a job that should start and is in no queue: Kueue's, with manageJobsWithoutQueueName.

    https://kueue.sigs.k8s.io/docs/reference/kueue-config.v1beta1
    """
    return is_suspended(judged) and not is_suspended(item) and not is_in_queue(judged)


def _called(item: Object) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def _refused(item: Object, error: ClusterError) -> str:
    if _EXISTS not in str(error):
        return f"the API server would refuse it: {error}"
    kind, name = item["kind"], item["metadata"]["name"]
    if kind == "ServiceAccount" and name != (item["metadata"].get("labels") or {}).get(RUN_LABEL, name):
        return "it exists already: to use it, set serviceAccount.create to false (chart value)"
    return (
        "an object of that name already exists and does not belong to this run: choose another --name, or remove "
        f"it with 'kubectl delete {kind.lower()} {name}'"
    )


def _explain_ignored(judged: Object, kind: str) -> str:
    """The message for a job whose queue no controller manages."""
    return (
        f"it names the queue {judged['metadata']['labels'][QUEUE_LABEL]}, but Kueue does not manage it: it would "
        "start at once and ignore every quota; have an administrator enable the integration "
        f"{_INTEGRATIONS.get(kind, kind)} in Kueue's configuration, or leave out --queue"
    )


def _changed(item: Object, judged: Object) -> Iterator[Finding]:
    """What ``tspctl`` finds and reads objects by, and would not find again."""
    for part in ("labels", "annotations"):
        found = (judged.get("metadata") or {}).get(part) or {}
        for key, value in (item["metadata"].get(part) or {}).items():
            is_ours = key in _OUR_LABELS if part == "labels" else key.startswith(_OUR_ANNOTATIONS)
            if is_ours and found.get(key) != value:
                yield Finding(
                    _called(item),
                    "error",
                    f"a webhook or policy of the cluster sets its {part[:-1]} {key} to {found.get(key)!r} instead of "
                    f"{value!r}, so tspctl would not find it again: have an administrator exempt it",
                )


def _pod(item: Object, template: Object) -> dict[str, Any]:
    """A pod as a controller makes it, for the default account: that of the release does not exist yet."""
    spec = {key: value for key, value in template["spec"].items() if key != "serviceAccountName"}
    name = f"{item['metadata']['name']}-0"
    metadata = {**template.get("metadata", {}), "name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"restartPolicy": "Never", **spec}}


def _refused_pod(item: Object, message: str) -> Finding:
    what = f"pods of {_called(item)}"
    quota = _QUOTA.search(message)
    if quota is None:
        return Finding(what, "error", f"the API server would refuse them: {message}")
    asked, limited = _amounts(quota[2]), _amounts(quota[3])
    if any(amount > limited.get(key, amount) for key, amount in asked.items()):
        return Finding(what, "error", f"one needs more than quota {quota[1]} allows in all: {quota[0]}")
    return Finding(what, "warning", f"quota {quota[1]} is used up: they wait until others have ended ({quota[0]})")


def _amounts(text: str) -> dict[str, float]:
    """``requests.nvidia.com/gpu=2,limits.memory=8Gi`` as numbers."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {key: amount for key, _, value in pairs if (amount := parse_quantity(value)) is not None}
