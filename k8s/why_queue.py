"""Why a suspended run does not start: its user, Kueue, or another user or tool suspended it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from k8s.names import QUEUE_LABEL, QUEUE_PRIORITY_LABEL, Object
from k8s.status import (
    is_deactivated,
    stopped_by_user,
)

TOO_LONG = "it ran longer than its deadline allows"
_EXECUTION_TIME = "MaximumExecutionTimeExceeded"
_NEVER_ADMITTED = ("ExceedsMaxQuota", "NoMatchingFlavor")
_MORE_THAN_ALL = "> maximum capacity"
"""Of Kueue before it gave reasons."""
_UIDS = re.compile(r" \((?:UID|JobUID): [^)]*\)")


def held_back(job: Object, workload: Object | None) -> str:
    """Why a suspended run waits. Args: workload, Kueue's object for it."""
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if queue is None and workload is not None:
        return f"held by Kueue, {without_queue(str(job['metadata']['name']))}"
    if stopped_by_user(job):
        return f"suspended: continue with 'tspctl resume {job['metadata']['name']}'"
    if queue is None:
        return (
            "suspended by another user or tool (its suspend field): continue with 'tspctl resume "
            f"{job['metadata']['name']}'"
        )
    status = (workload or {}).get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    evicted = conditions.get("Evicted") or {}
    resume = f"continue with 'tspctl resume {job['metadata']['name']}'"
    if is_deactivated(workload):
        if _EXECUTION_TIME in str(evicted.get("reason")):
            return f"{TOO_LONG} in queue {queue}: {resume}"
        said = evicted.get("message") or "by an administrator"
        return f"deactivated in queue {queue} ({said}): {resume}"
    never = _never_admitted(conditions.get("QuotaReserved") or {})
    if never:
        return f"can never start in queue {queue} as it is: {never}"
    if evicted.get("status") == "True":
        return f"{_evicted(evicted, conditions)} and waits in queue {queue} again{_next_try(status)}"
    pending = [item for item in status.get("admissionChecks") or [] if item.get("state") != "Ready"]
    if pending and (conditions.get("QuotaReserved") or {}).get("status") == "True":
        said = f": {pending[0]['message']}" if pending[0].get("message") else ""
        return f"has its quota in queue {queue}, and waits for the admission check {pending[0].get('name')}{said}"
    for kind in ("QuotaReserved", "Admitted"):
        if kind in conditions and conditions[kind].get("status") != "True":
            return f"waits in queue {queue}: {conditions[kind].get('message')}"
    if workload is None:
        priority = (job["metadata"].get("labels") or {}).get(QUEUE_PRIORITY_LABEL)
        asked = f"do the LocalQueue and the WorkloadPriorityClass {priority}" if priority else "does the LocalQueue"
        return f"waits in queue {queue}; whether Kueue manages it is not visible ({asked} exist?)"
    return f"waits in queue {queue}"


def without_queue(name: str) -> str:
    """Why Kueue never starts a job without a queue where it manages such jobs, and what to do."""
    return (
        "which starts no jobs without a queue there: remove it with "
        f"'tspctl delete {name}', and submit it again with --queue"
    )


def _never_admitted(reserved: Object) -> str | None:
    """Kueue's message for a run that is larger than the whole quota, or fits none of its flavors."""
    if reserved.get("status") == "True":
        return None
    message = str(reserved.get("message") or "")
    clauses = [clause for clause in message.split("; ") if _MORE_THAN_ALL in clause]
    if clauses or reserved.get("reason") in _NEVER_ADMITTED:
        return (clauses or [message])[0]
    return None


def _evicted(evicted: Object, conditions: Mapping[str, Object]) -> str:
    """Kueue's reason for taking back a run's quota."""
    preempted = conditions.get("Preempted") or {}
    if evicted.get("reason") == "Preempted" and preempted.get("message"):
        return f"was preempted ({_UIDS.sub('', preempted['message'])})"
    return f"was evicted ({evicted.get('reason')}: {evicted.get('message')})"


def _next_try(status: Object) -> str:
    requeue = status.get("requeueState") or {}
    count, at = requeue.get("count"), requeue.get("requeueAt")
    return f"; try {count}" + (f", not before {at}" if at else "") if count else ""
