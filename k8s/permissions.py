"""The permissions that tspctl needs in a namespace, and whether its user has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from k8s.client import Cluster
from k8s.job_apis import JOB_APIS, Api
from tsp.run.status import Finding

Right = tuple[str, str, str, str]
"""Verb, group, resource, subresource."""
_ALL = ("create", "delete", "get", "list", "patch")
NEEDED = (
    *((verb, "batch", "jobs", "") for verb in _ALL),
    *(
        (verb, "", resource, "")
        for resource in ("configmaps", "serviceaccounts")
        for verb in ("create", "delete", "get")
    ),
    *((verb, "", "secrets", "") for verb in ("create", "delete", "get", "list", "update")),
    *((verb, "", "pods", "") for verb in ("delete", "get", "list")),
    ("get", "", "pods", "log"),
)
"""Those without which a run cannot be submitted, followed, stopped and removed.

Helm keeps a release in a Secret, which it updates; what it makes, it looks for before.
"""
NEEDED_FOR: Mapping[Api, tuple[Right, ...]] = {
    api: tuple(
        (verb, version.partition("/")[0], resource, "")
        for version, resource in (row.resource, *row.more_resources)
        for verb in _ALL
    )
    for api, row in JOB_APIS.items()
}
"""The same for what training is submitted as."""
_ASKED_AT_A_TIME = 8


def check_permissions(cluster: Cluster, apis: Iterable[Api] = ()) -> Iterator[Finding]:
    """May this user do what submit and logs need?

    Args: apis, what training is submitted as.
    """
    missing = missing_rights(cluster, [*(right for api in apis for right in NEEDED_FOR[api]), *NEEDED])
    if missing:
        advice = f"in namespace {cluster.namespace}; have an administrator bind the Role of k8s/role.yaml"
        yield Finding("permissions", "error", f"missing: {', '.join(missing)} {advice}")
    else:
        yield Finding("permissions", "ok", f"all required permissions in namespace {cluster.namespace}")
    if cluster.may("list", "nodes", everywhere=True):
        yield Finding("nodes", "ok", "may be listed")
    else:
        yield Finding(
            "nodes",
            "warning",
            "no permission to list nodes: the pods choose the downscale factor from the GPUs they find",
        )


def missing_rights(cluster: Cluster, needed: Sequence[Right]) -> list[str]:
    """Which of these this user does not have, in the form of a Role's rules."""

    def is_missing(right: Right) -> bool:
        verb, group, resource, subresource = right
        return not cluster.may(verb, resource, group=group, subresource=subresource)

    with ThreadPoolExecutor(_ASKED_AT_A_TIME) as asking:
        answers = zip(needed, asking.map(is_missing, needed), strict=True)
        return [
            f"{verb} {resource}{'/' + subresource if subresource else ''}{'.' + group if group else ''}"
            for (verb, group, resource, subresource), lacking in answers
            if lacking
        ]
