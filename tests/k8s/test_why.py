"""One line on why a run waits or failed, from what the scheduler, the kubelet and the operator say."""

import pytest

from k8s.why import why, why_pod
from tests.k8s.objects import (
    event,
    indexed_job,
    job,
    node_pod,
    pod,
    terminated,
    train_job,
    unschedulable,
    waiting,
    with_ranks,
)
from tests.k8s.reasons import IN_INIT, PENDING, PSS, QUOTA


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No "
            "preemption victims found for incoming pod.",
            "rank 0 cannot be scheduled: not enough free nvidia.com/gpu "
            "(0/3 nodes are available: 3 Insufficient nvidia.com/gpu)",
        ),
        (
            "0/2 nodes are available: 2 Insufficient memory.",
            "rank 0 cannot be scheduled: not enough memory on the nodes: lower resources.requests.memory "
            "(0/2 nodes are available: 2 Insufficient memory)",
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {team: other}. preemption: ...",
            "rank 0 cannot be scheduled: the nodes have the taint {team: other}: add to tolerations "
            "(0/1 nodes are available: 1 node(s) had untolerated taint {team: other})",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "rank 0 cannot be scheduled: no node matches the node selector and the GPU plan "
            "(0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector)",
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "rank 0 cannot be scheduled: a volume claim is not bound "
            "(0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims)",
        ),
        (
            '0/1 nodes are available: persistentvolumeclaim "videos" not found.',
            "rank 0 cannot be scheduled: the volume claim videos does not exist: create it or set data.claim "
            '(0/1 nodes are available: persistentvolumeclaim "videos" not found)',
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
            "rank 0 cannot be scheduled: the master has no node yet, or its own pod affinity matches none "
            "(0/1 nodes are available: 1 node(s) didn't match pod affinity rules)",
        ),
        ("something new", "rank 0 cannot be scheduled: something new"),
    ],
)
def test_an_unschedulable_rank_names_the_resource(message, expected):
    assert why(PENDING, [unschedulable(message)]) == expected


def test_the_schedulers_event_counts_where_the_pod_says_nothing():
    events = [event("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.", of="my-run-master-0")]
    assert "not enough cpu" in why(PENDING, [pod(phase="Pending", node=None)], events)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "tspctl:1"'),
            'rank 1 cannot pull image tspctl:1 (ImagePullBackOff): Back-off pulling image "tspctl:1"',
        ),
        (
            waiting("ErrImageNeverPull"),
            "rank 1 cannot pull image tspctl:1 (ErrImageNeverPull): check --image and image.pullSecrets",
        ),
        (
            waiting("CreateContainerConfigError", 'secret "s3-login" not found'),
            'rank 1 cannot start: secret "s3-login" not found '
            "(store.existingSecret names the Secret with the store's credentials)",
        ),
        (
            waiting("CreateContainerConfigError", "couldn't find key AWS_ACCESS_KEY_ID in Secret ns/s3-login"),
            "rank 1 cannot start (CreateContainerConfigError): "
            "couldn't find key AWS_ACCESS_KEY_ID in Secret ns/s3-login",
        ),
        (waiting("RunContainerError", "no such runtime"), "rank 1 cannot start (RunContainerError): no such runtime"),
        (waiting("ContainerCreating"), None),
    ],
)
def test_a_rank_that_cannot_start_says_what_is_missing(state, expected):
    assert why(job("Created", "Running"), [pod(0), pod(1, "Pending", state=state)]) == expected


def test_an_init_container_that_cannot_be_pulled_counts_too():
    init = {"name": "init-pytorch", "image": "alpine:3.10", "state": waiting("ErrImagePull", "no route")}
    rank = pod(1, "Pending", state=waiting("PodInitializing"), initContainerStatuses=[init])
    assert why(PENDING, [pod(0), rank]) == "rank 1 cannot pull image alpine:3.10 (ErrImagePull): no route"


def test_a_worker_in_its_init_container_waits_for_the_master():
    init = {"name": "init-pytorch", "state": {"running": {}}}
    rank = pod(1, "Pending", state=waiting("PodInitializing"), initContainerStatuses=[init])
    assert why(PENDING, [pod(0), rank]) == "rank 1 waits for the master's name (the operator's init container)"


WAITS_FOR_THE_MASTER = [
    pod(1, "Pending", state=waiting("PodInitializing"), initContainerStatuses=[IN_INIT]),
    unschedulable("0/1 nodes are available: 1 node(s) didn't match pod affinity rules.", rank=1),
    unschedulable("0/2 nodes: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match pod affinity rules.", rank=1),
]


@pytest.mark.parametrize(
    ("message", "cause"), [(QUOTA, "quota gpu-quota is exceeded"), (PSS.format("a"), "Pod Security Standard")]
)
@pytest.mark.parametrize("worker", WAITS_FOR_THE_MASTER, ids=["in_init", "by_affinity", "by_affinity_and_gpus"])
def test_what_keeps_the_master_from_being_created_is_told_before_that_workers_wait_for_it(worker, message, cause):
    refusal = event("FailedCreatePod", message.replace("worker", "master"))
    assert cause in why(PENDING, [worker], [refusal])


@pytest.mark.parametrize("worker", WAITS_FOR_THE_MASTER, ids=["in_init", "by_affinity", "by_affinity_and_gpus"])
def test_what_the_master_waits_for_is_told_before_that_workers_wait_for_it(worker):
    master = unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {team: other}.")
    assert "rank 0 cannot be scheduled: the nodes have the taint" in why(PENDING, [worker, master])


def test_a_rank_that_cannot_start_is_told_before_ranks_that_wait_for_a_node():
    pods = [
        unschedulable("0/1 nodes: 1 Insufficient nvidia.com/gpu."),
        pod(1, "Pending", state=waiting("ErrImagePull")),
    ]
    assert "rank 1 cannot pull image" in why(PENDING, pods)


def test_a_refusal_is_no_news_once_the_pod_that_it_names_is_there():
    waits = unschedulable("0/1 nodes are available: 1 Insufficient cpu.", rank=1)
    assert "rank 1 cannot be scheduled: not enough cpu" in why(PENDING, [waits], [event("FailedCreatePod", QUOTA)])


def test_a_refusal_is_no_news_where_all_pods_are_there_of_which_a_few_are_shown():
    waits = unschedulable("0/1 nodes are available: 1 Insufficient cpu.", rank=1)
    refusal = event("FailedCreatePod", QUOTA.replace("worker", "master"))
    assert "not enough cpu" in why(PENDING, [waits], [refusal], present=2)


def test_a_volume_that_cannot_be_mounted_is_named():
    mount = 'MountVolume.SetUp failed for volume "store-ca" : configmap "ca" not found'
    events = [event("FailedMount", mount, of="my-run-master-0")]
    rank = pod(0, "Pending", state=waiting("ContainerCreating"))
    assert why(PENDING, [rank], events) == f"rank 0 cannot start (FailedMount): {mount}"


def test_a_run_whose_configmap_was_deleted_says_how_to_get_it_back():
    mount = 'MountVolume.SetUp failed for volume "config" : configmap "my-run-config" not found'
    events = [event("FailedMount", mount, of="my-run-master-0")]
    rank = pod(0, "Pending", state=waiting("ContainerCreating"))
    cure = "'tspctl cancel my-run', then 'tspctl resume my-run' creates it again"
    assert why(PENDING, [rank], events) == f"rank 0 cannot start, as the run's ConfigMap was deleted: {cure}"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            QUOTA,
            "quota gpu-quota is exceeded: requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=4, "
            "limited: requests.nvidia.com/gpu=4",
        ),
        (
            'Error creating: pods "x" is forbidden: failed quota: cpu: must specify limits.cpu for: pytorch',
            "quota cpu requires more of every pod: must specify limits.cpu for: pytorch (set resources)",
        ),
        (
            PSS.format("init-pytorch"),
            "the namespace enforces the Pod Security Standard restricted:latest, which refuses the operator's own init "
            "container: give the operator a template with a security context (charts/tsp/README.md)",
        ),
        (
            'Error creating: admission webhook "x" denied the request: no',
            'pods are not created: admission webhook "x" denied the request: no',
        ),
    ],
)
def test_pods_that_are_not_created_have_a_reason(message, expected):
    assert why(PENDING, [], [event("FailedCreatePod", message)]) == expected


def test_the_security_standard_names_our_own_pods_otherwise():
    text = why(PENDING, [], [event("FailedCreatePod", PSS.format("pytorch"))])
    assert text.startswith(
        "the namespace enforces the Pod Security Standard restricted:latest, which refuses the pods: allow"
    )


def test_an_old_refusal_is_no_news_once_all_pods_are_there():
    assert why(job("Running"), [pod(0), pod(1)], [event("FailedCreatePod", QUOTA)]) is None


def test_the_newest_event_counts():
    events = [
        event("FailedCreatePod", QUOTA),
        event("FailedCreatePod", "Error creating: later", at="2031-01-01T00:00:00Z"),
    ]
    assert why(PENDING, [], events) == "pods are not created: later"


@pytest.mark.parametrize("state", ["Succeeded", "Running"])
def test_a_run_that_is_well_has_no_reason(state):
    assert why(job("Created", state), [pod(0), pod(1)], [event("SuccessfulCreatePod", "Created pod")]) is None


def test_a_job_that_the_operator_has_not_seen_says_so():
    assert why(job()) == "no controller has picked it up yet: is the training operator running?"
    none = "has 0 of its 2 pods, and the training operator creates no others: is it running, and may it create pods?"
    assert why(PENDING) == none
    assert why(job("Created", "Running"), [pod(0)]) == none.replace("has 0", "has 1")
    # of a list, which reads only the pods that are not well
    assert why(job("Created", "Running"), [], present=2) is None
    assert why(train_job("Created"), [node_pod(0)]).endswith(
        "and Kubeflow Trainer creates no others: is it running, and may it create pods?"
    )
    assert why(indexed_job(), []) is None


def test_a_pod_that_the_operator_should_have_replaced_is_told_with_how_it_ended():
    """As long as the operator works, such a run is restarting and the pod gone at once."""
    killed = pod(1, "Failed", state=terminated(137))
    ended = "restarted: rank 1 ended with exit code 137 (killed (out of memory, or by force))"
    not_yet = "the training operator replaces no pod (is it running?): "
    assert why(job("Running"), [pod(0), killed]) == not_yet + ended.removeprefix("restarted: ")
    assert why(job("Restarting"), [pod(0), killed]) == ended
    killed["metadata"]["deletionTimestamp"] = "2030-01-01T01:00:00Z"
    assert why(job("Running"), [pod(0), killed]) == ended


def test_workers_that_hold_gpus_without_their_master_are_not_promised_an_end_that_nobody_counts():
    on_gpus = {"annotations": {"tspctl/gpu-resource": "nvidia.com/gpu"}}
    init = {"name": "init-pytorch", "state": {"running": {}}}
    worker = pod(1, "Pending", state=waiting("PodInitializing"), initContainerStatuses=[init])
    master = unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    told = why(job("Created", **on_gpus), [master, worker])
    assert told.startswith(
        "1 of 2 ranks hold GPUs and wait for the master (masterFirst, --queue and --gang prevent it); "
    )
    assert "rank 0 cannot be scheduled: not enough free nvidia.com/gpu" in told
    assert "placement_timeout_sec at most" in why(
        train_job("Created", **on_gpus), [unscheduled_node_pod(), node_pod(1)]
    )


def unscheduled_node_pod():
    return {
        **unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        "metadata": node_pod(0)["metadata"],
    }


UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


@pytest.mark.parametrize(
    ("claims", "events", "expected"),
    [
        (("videos",), (), "the volume claim videos is not bound: see 'kubectl describe pvc videos'"),
        (("a", "b"), (), "one of the volume claims a, b is not bound: see 'kubectl describe pvc a'"),
        (
            ("a", "b"),
            ("b", 'storageclass.storage.k8s.io "fast" not found'),
            'the volume claim b is not bound: storageclass.storage.k8s.io "fast" not found',
        ),
    ],
)
def test_a_volume_claim_that_is_not_bound_is_named_with_what_its_controller_says(claims, events, expected):
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    rank = unschedulable(UNBOUND)
    rank["spec"]["volumes"] = volumes
    said = []
    if events:
        said = [event("ProvisioningFailed", events[1], of=events[0])]
        said[0]["involvedObject"]["kind"] = "PersistentVolumeClaim"
    assert (
        why(job("Created", gpus=1), [rank], said) == f"rank 0 cannot be scheduled: {expected} ({UNBOUND.rstrip('.')})"
    )
    # a class that makes volumes only for a node: the scheduler has chosen one, and says nothing
    rank["status"].pop("conditions")
    assert why(job("Created", gpus=1), [rank], said) == f"rank 0 waits for the scheduler; {expected}"


def test_a_single_pod_has_its_own_reason():
    assert why_pod(unschedulable("0/1 nodes are available: 1 Insufficient cpu.", rank=3)).startswith("rank 3 cannot")
    assert why_pod(pod(2, "Failed", state=terminated(6))) == "rank 2 ended with exit code 6 (out of GPU memory)"
    assert why_pod(pod(2)) is None


def test_a_reason_is_one_line_of_bounded_length():
    text = why(PENDING, [unschedulable("a\nb " * 500)])
    assert "\n" not in text
    assert len(text) == 300


# First causes, other people's words


@pytest.mark.parametrize(
    "reason", ["OutOfnvidia.com/gpu", "UnexpectedAdmissionError", "Preempting", "SomethingOfTomorrow"]
)
def test_a_nodes_reason_is_shown_whether_we_know_it_or_not(reason):
    refused = pod(1, "Failed", reason=reason, message="Pod was rejected: no device left")
    refused["status"]["containerStatuses"] = []
    assert f"rank 1 was refused or lost by its node ({reason}): Pod was rejected" in why(job("Failed"), [refused])


def test_a_job_that_has_just_begun_is_no_matter_of_the_training_operator():
    assert why(indexed_job()) is None
    assert why(job()) == "no controller has picked it up yet: is the training operator running?"


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("volcano", "rank 0 waits for the scheduler volcano (schedulerName): is it running?"),
        ("default-scheduler", None),
        (None, None),
    ],
)
def test_a_scheduler_that_does_not_look_at_a_pod_is_named_if_it_is_not_the_usual_one(scheduler, expected):
    rank = pod(0, "Pending", node=None)
    rank["spec"]["schedulerName"] = scheduler
    assert why(job(), [rank, pod(1)]) == (
        f"1 of 2 ranks hold their requested resources and wait for the master "
        f"(masterFirst, --queue and --gang prevent it); {expected}"
        if expected
        else None
    )


def test_a_reason_of_the_scheduler_has_no_stray_comma():
    waits = unschedulable(
        "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 Insufficient cpu. preemption: none"
    )
    assert "not enough free nvidia.com/gpu (" in why(job("Created"), [waits])


@pytest.mark.parametrize(("of_job", "of_pod"), [(job, pod), (train_job, node_pod)])
@pytest.mark.parametrize(("per_pod", "held"), [(1, "2 of 3 ranks"), (4, "8 of 12 ranks")])
def test_ranks_that_hold_gpus_while_others_wait_are_counted(of_job, of_pod, per_pod, held):
    pods = [of_pod(0), of_pod(1, "Pending"), unschedulable("0/1 nodes: 1 Insufficient nvidia.com/gpu.", 2)]
    if of_job is train_job:
        pods[2] |= {"metadata": of_pod(2, "Pending", node=None)["metadata"]}
    annotations = {"tspctl/gpu-resource": "nvidia.com/gpu"}
    found = with_ranks(of_job("Created", gpus=3, annotations=annotations), per_pod)
    said = why(found, [with_ranks(item, per_pod) for item in pods])
    assert said.startswith(f"{held} hold GPUs, for placement_timeout_sec at most; ")
    assert "not enough free nvidia.com/gpu" in said
    # nothing is held where nothing is placed, and nothing is said where all are
    assert "hold" not in why(found, [with_ranks(pods[2], per_pod)])
    at_work = train_job(ready=1) if of_job is train_job else job("Running")
    assert why(at_work, [of_pod(0), of_pod(1)]) is None


# Several true reasons at once: the cause is told, whatever the operator makes first and whichever event arrives first


def test_nothing_is_refused_where_there_are_more_pods_than_asked_for():
    waits = unschedulable("0/1 nodes are available: 1 Insufficient cpu.", rank=1)
    refusal = event("FailedCreatePod", QUOTA.replace("worker", "master"))
    assert "not enough cpu" in why(PENDING, [waits], [refusal], present=3)


@pytest.mark.parametrize("kind", ["Node", "ReplicaSet"])
def test_the_events_of_something_else_of_the_name_are_not_a_pods(kind):
    waits = pod(0, "Pending", state=waiting("ContainerCreating"))
    mount = event("FailedMount", "MountVolume.SetUp failed", of="my-run-master-0")
    assert "MountVolume" in why(PENDING, [waits], [mount])
    mount["involvedObject"]["kind"] = kind
    assert "MountVolume" not in (why(PENDING, [waits], [mount]) or "")


@pytest.mark.parametrize("claims", [("videos",), ("videos", "weights")])
def test_a_claim_that_is_not_bound_is_named(claims):
    waits = unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    waits["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    said = why(PENDING, [waits])
    which = "the volume claim videos" if len(claims) == 1 else "one of the volume claims videos, weights"
    assert f"cannot be scheduled: {which} is not bound: see 'kubectl describe pvc videos'" in said


def test_a_pod_that_is_being_deleted_waits_for_nothing():
    waits = pod(1, "Pending", state=waiting("PodInitializing"), initContainerStatuses=[IN_INIT])
    assert "waits for the master" in why_pod(waits)
    going = pod(1, "Pending", state=waiting("PodInitializing"), initContainerStatuses=[IN_INIT], deleting=True)
    assert "waits for the master" not in (why_pod(going) or "")
