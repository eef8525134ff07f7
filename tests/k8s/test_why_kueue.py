"""What a run in a Kueue queue waits for or was ended by."""

import pytest

from k8s.status import state_of
from k8s.why import why
from tests.k8s.objects import (
    job,
    train_job,
)
from tests.k8s.reasons import QUEUED


def workload(*conditions, active=True, **status):
    return {"spec": {"active": active}, "status": {"conditions": list(conditions), **status}}


def of_kueue(kind, reason, message, status="True"):
    return {"type": kind, "status": status, "reason": reason, "message": message}


def not_yet(kind, message):
    return workload(of_kueue(kind, "Pending", message, status="False"))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            not_yet("QuotaReserved", "couldn't assign flavors to pod set master: insufficient quota"),
            "waits in queue team: couldn't assign flavors to pod set master: insufficient quota",
        ),
        (
            not_yet("Admitted", "waiting for checks"),
            "waits in queue team: waiting for checks",
        ),
        (
            workload(of_kueue("QuotaReserved", "Pending", "not known", status="Unknown")),
            "waits in queue team: not known",
        ),
        (
            workload(
                of_kueue("QuotaReserved", "", "", status="True"), of_kueue("Admitted", "", "checks", status="Unknown")
            ),
            "waits in queue team: checks",
        ),
        (
            None,
            "waits in queue team; whether Kueue manages it is not visible (does the LocalQueue exist?)",
        ),
    ],
)
def test_a_queued_run_gives_kueues_reason(found, expected):
    assert why(job("Suspended", suspend=True, **QUEUED), workload=found) == expected


def test_a_suspended_run_says_how_to_go_on():
    stopped = job("Suspended", suspend=True, annotations={"tspctl/stopped": "suspended"})
    assert why(stopped) == "suspended: continue with 'tspctl resume my-run'"
    said = "suspended by another user or tool (its suspend field): continue with 'tspctl resume my-run'"
    assert why(job("Suspended", suspend=True)) == said


def test_a_run_that_kueue_deactivated_is_suspended_and_says_how_to_go_on():
    evicted = of_kueue("Evicted", "Deactivated", "exceeded the requeuing limit")
    held = workload(evicted, active=False)
    found = job("Created", suspend=True, **QUEUED)
    assert state_of(found, (), held) == "suspended"
    expected = "deactivated in queue team (exceeded the requeuing limit): continue with 'tspctl resume my-run'"
    assert why(found, (), (), held) == expected
    assert state_of(found, (), workload()) == "pending"


def test_a_preempted_run_says_so_and_when_it_is_tried_again():
    conditions = [
        of_kueue("Evicted", "Preempted", "Preempted to accommodate a workload"),
        of_kueue("Preempted", "InClusterQueue", "by a workload of higher priority"),
    ]
    found = job("Created", suspend=True, **QUEUED)
    again = workload(*conditions, requeueState={"count": 2, "requeueAt": "2030-01-01T02:00:00Z"})
    expected = "was preempted (by a workload of higher priority) and waits in queue team again; try 2, not before 2030-"
    assert why(found, (), (), again).startswith(expected)
    lost = workload(of_kueue("Evicted", "PodsReadyTimeout", "pods were not ready in time"))
    assert "was evicted (PodsReadyTimeout: pods were not ready in time) and waits" in why(found, (), (), lost)
    for reason in ("PodsReadyTimeout", "WorkloadInactive"):  # long after it was preempted
        later = workload(of_kueue("Evicted", reason, "for another reason"), conditions[1])
        assert f"was evicted ({reason}: for another reason)" in why(found, (), (), later)


def no_quota(message, reason="Pending"):
    return {"type": "QuotaReserved", "status": "False", "reason": reason, "message": message}


WAITS = (
    "couldn't assign flavors to pod set master: insufficient unused quota for nvidia.com/gpu in flavor a, 1 more needed"
)


TOO_LARGE = (
    "couldn't assign flavors to pod set worker: insufficient quota for nvidia.com/gpu in flavor a, previously "
    "considered podsets requests (1) + current podset request (1) > maximum capacity (1)"
)


@pytest.mark.parametrize("of_job", [job, train_job])
@pytest.mark.parametrize(
    ("reserved", "said"),
    [
        (no_quota(WAITS), f"waits in queue team: {WAITS}"),
        (no_quota(TOO_LARGE), f"can never start in queue team as it is: {TOO_LARGE}"),
        (no_quota(f"{WAITS}; {TOO_LARGE}"), f"can never start in queue team as it is: {TOO_LARGE}"),
        # As newer Kueue says it.
        (no_quota("too much", "ExceedsMaxQuota"), "can never start in queue team as it is: too much"),
        (no_quota("no flavor", "NoMatchingFlavor"), "can never start in queue team as it is: no flavor"),
        (no_quota("soon", "WaitingForQuota"), "waits in queue team: soon"),
    ],
)
def test_a_run_larger_than_its_queues_whole_quota_is_told_from_one_that_waits(of_job, reserved, said):
    assert why(of_job("Suspended", suspend=True, **QUEUED), workload=workload(reserved)) == said


def test_a_run_of_which_kueue_made_nothing_names_what_may_not_be_there():
    """Kueue says nothing of a WorkloadPriorityClass that does not exist, but in its own log."""
    labels = {**QUEUED["labels"], "kueue.x-k8s.io/priority-class": "high"}
    said = why(job("Suspended", suspend=True, labels=labels))
    assert said.endswith("(do the LocalQueue and the WorkloadPriorityClass high exist?)")


def test_a_deadline_that_kueue_counts_is_named_as_one():
    message = "The workload is deactivated due to exceeding the maximum execution time"
    evicted = of_kueue("Evicted", "DeactivatedDueToMaximumExecutionTimeExceeded", message)
    said = why(job("Suspended", suspend=True, **QUEUED), workload=workload(evicted, no_quota(message), active=False))
    assert said == "it ran longer than its deadline allows in queue team: continue with 'tspctl resume my-run'"


def test_who_preempts_is_told_without_the_numbers_that_only_kueue_knows():
    message = "Preempted to accommodate a workload (UID: d651, JobUID: 8816) due to prioritization in the ClusterQueue"
    conditions = [of_kueue("Evicted", "Preempted", message), of_kueue("Preempted", "InClusterQueue", message)]
    said = why(job("Suspended", suspend=True, **QUEUED), workload=workload(*conditions, no_quota(WAITS)))
    assert said == (
        "was preempted (Preempted to accommodate a workload due to prioritization in the ClusterQueue) and waits in "
        "queue team again"
    )


CHECKED = {"name": "budget", "state": "Pending", "message": "waits for approval"}
RESERVED = of_kueue("QuotaReserved", "QuotaReserved", "Quota reserved in ClusterQueue cq")


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([CHECKED], "has its quota in queue team, and waits for the admission check budget: waits for approval"),
        ([{**CHECKED, "message": ""}], "has its quota in queue team, and waits for the admission check budget"),
        (
            [{**CHECKED, "state": "Ready"}, {**CHECKED, "name": "nodes", "state": "Retry", "message": "none"}],
            "has its quota in queue team, and waits for the admission check nodes: none",
        ),
        ([{**CHECKED, "state": "Ready"}], "waits in queue team"),
    ],
)
def test_an_admission_check_that_a_run_waits_for_is_named(checks, expected):
    assert why(job(suspend=True, **QUEUED), workload=workload(RESERVED, admissionChecks=checks)) == expected


@pytest.mark.parametrize("found", [job(suspend=True), train_job(suspend=True)])
def test_a_run_without_a_queue_that_kueue_holds_is_not_told_to_resume(found):
    """Kueue with manageJobsWithoutQueueName: its Workload names no queue."""
    held = workload(of_kueue("QuotaReserved", "Inadmissible", "LocalQueue  doesn't exist", status="False"))
    assert why(found, workload=held) == (
        "held by Kueue, which starts no jobs without a queue there: remove it with 'tspctl delete my-run', and submit "
        "it again with --queue"
    )
    assert why(found) == ("suspended by another user or tool (its suspend field): continue with 'tspctl resume my-run'")
