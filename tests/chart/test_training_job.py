"""What a training run is submitted as, how many pods it has, and what each of them holds."""

import json
import subprocess

import pytest
import yaml

from tests.chart.conftest import CHART, ENOUGH, HelmError, replicated_jobs
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import to_json
from tsp.errors import POD_EXIT_MEANINGS

PYTORCHJOB, TRAINJOB = "kubeflow.org/v1/PyTorchJob", "trainer.kubeflow.org/v1alpha1/TrainJob"


def kind_of(rendered):
    (kind,) = {item["kind"] for item in rendered.objects} & {"PyTorchJob", "TrainJob"}
    return kind


@pytest.mark.parametrize(
    ("api", "serves", "kind"),
    [
        ("auto", (), "PyTorchJob"),
        ("auto", (PYTORCHJOB,), "PyTorchJob"),
        ("auto", (PYTORCHJOB, TRAINJOB), "PyTorchJob"),
        ("auto", (TRAINJOB,), "TrainJob"),
        ("pytorchjob", (TRAINJOB,), "PyTorchJob"),
        ("trainjob", (PYTORCHJOB,), "TrainJob"),
    ],
)
def test_a_run_is_a_pytorchjob_unless_the_cluster_has_trainjobs_alone(render, api, serves, kind):
    assert kind_of(render(job={"api": api}, serves=serves)) == kind


def test_auxiliary_jobs_stay_indexed_jobs(render):
    rendered = render(job={"kind": "extract", "request": "{}", "api": "trainjob"}, gpusPerPod=4)
    assert "TrainJob" not in rendered
    assert rendered["Job"]["spec"]["completions"] == 1
    assert "limits" not in rendered.container["resources"]


@pytest.mark.parametrize("api", ["pytorchjob", "trainjob"])
@pytest.mark.parametrize(("gpus", "per_pod", "pods"), [(1, 1, 1), (8, 1, 8), (8, 2, 4), (8, 8, 1)])
def test_pods_share_out_the_gpus_evenly(render, api, gpus, per_pod, pods):
    rendered = render(gpus=gpus, gpusPerPod=per_pod, job={"api": api})
    if api == "pytorchjob":
        replicas = rendered["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]
        assert {kind: item["replicas"] for kind, item in replicas.items()} == (
            {"Master": 1, "Worker": pods - 1} if pods > 1 else {"Master": 1}
        )
    else:
        (job,) = replicated_jobs(rendered["TrainingRuntime"])
        spec = job["template"]["spec"]
        assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (pods, pods, "Indexed")
        assert rendered["TrainJob"]["spec"]["trainer"] == {"numNodes": pods}
        assert rendered["TrainingRuntime"]["spec"]["mlPolicy"] == {"numNodes": pods, "torch": {}}
    env = {item["name"]: item.get("value") for item in rendered.container["env"]}
    assert rendered.container["resources"]["limits"] == {"nvidia.com/gpu": str(per_pod)}
    assert env.get("TSP_RANKS_PER_POD") == (str(per_pod) if per_pod > 1 else None)
    job, (template, *_) = rendered[kind_of(rendered)], rendered.templates
    for item in (job, template):
        expected = str(per_pod) if per_pod > 1 else None
        assert item["metadata"]["annotations"].get("tspctl/ranks-per-pod") == expected
    # what a rank is told does not depend on how they are shared out
    assert json.loads(rendered.config)["request"]["gpus"] == gpus


def test_a_pod_asks_for_what_its_ranks_need_together(render):
    one, four = render(gpus=4), render(gpus=4, gpusPerPod=4)
    assert one.container["resources"]["requests"] == {"cpu": "5", "memory": "10240Mi"}
    assert four.container["resources"]["requests"] == {"cpu": "20", "memory": "40960Mi"}
    shm = {item["name"]: item for item in four.pod["volumes"]}["shm"]["emptyDir"]
    assert shm == {"medium": "Memory", "sizeLimit": "32768Mi"}
    # the pod of `helm test` is no rank
    assert four.test_hook["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "5", "memory": "10240Mi"}
    }


@pytest.mark.parametrize(("workers", "cpu"), [(None, "5"), (0, "1"), (4, "5"), (12, "13")])
def test_the_cpu_request_follows_the_data_workers_and_reaches_the_ranks(render, workers, cpu):
    chosen = {} if workers is None else {"set": {"data.workers": workers}}
    config = resolve(
        load_dataset("thumos14"), "tac", name="my-run", store={"uri": "s3://b"}, root="/data",
        overrides={"gpus": 2, "data.workers": workers},
    )  # fmt: skip
    sent = render(bare=True, gpus=2, config=to_json(config))
    for rendered in (render(**chosen), sent):
        assert rendered.container["resources"]["requests"]["cpu"] == cpu
        (told,) = [item for item in rendered.container["env"] if item["name"] == "TSP_CPUS"]
        assert told["valueFrom"] == {"resourceFieldRef": {"resource": "requests.cpu"}}


@pytest.mark.parametrize("api", ["pytorchjob", "trainjob"])
def test_gpus_that_pods_cannot_share_out_evenly_are_refused(render, api):
    with pytest.raises(HelmError, match=r"gpus is 8, which is not a multiple of gpusPerPod 3"):
        render(gpus=8, gpusPerPod=3, job={"api": api})


def test_pods_of_a_run_like_one_node_then_one_zone(render):
    rendered = render(affinity={"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}})
    own, *terms = rendered.pod["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert own == {"weight": 1}
    assert [(item["weight"], item["podAffinityTerm"]["topologyKey"]) for item in terms] == [
        (100, "kubernetes.io/hostname"), (50, "topology.kubernetes.io/zone"),
    ]  # fmt: skip
    labels = rendered.templates[0]["metadata"]["labels"]
    for item in terms:
        wanted = item["podAffinityTerm"]["labelSelector"]["matchLabels"]
        assert wanted["app.kubernetes.io/instance"] == "my-run"
        assert wanted.items() <= labels.items()
    assert "affinity" not in render(gpus=8, gpusPerPod=8).pod
    assert "affinity" not in render(keepTogether=False).pod


def test_workers_are_placed_after_the_master(render):
    own = {"topologyKey": "zone", "labelSelector": {}}
    rendered = render(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [own]}})
    master, worker = (
        item["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        for item in rendered.templates[:2]
    )
    assert master == [own]
    assert worker[:-1] == [own]
    wanted = {"training.kubeflow.org/job-name": "my-run", "training.kubeflow.org/replica-type": "master"}
    assert worker[-1] == {"topologyKey": "kubernetes.io/os", "labelSelector": {"matchLabels": wanted}}


@pytest.mark.parametrize(
    ("values", "apis"),
    [
        ({"gang": "volcano"}, ()),
        ({"gang": "coscheduling"}, ()),
        ({"schedulerName": "packing"}, ()),
        ({"masterFirst": False}, ()),
        ({}, ("scheduling.volcano.sh/v1beta1",)),
        ({}, ("scheduling.x-k8s.io/v1alpha1",)),
        ({"job": {"api": "trainjob"}}, ()),
    ],
)
def test_workers_that_a_gang_scheduler_may_place_wait_for_nobody(render, values, apis):
    for template in render(serves=apis, **values).templates:
        assert "requiredDuringScheduling" not in str(template["spec"].get("affinity"))


def test_a_trainjobs_exit_codes_mean_what_a_pytorchjobs_do(render):
    rendered = render(job={"api": "trainjob"})
    runtime = rendered["TrainingRuntime"]["spec"]["template"]["spec"]
    (job,) = runtime["replicatedJobs"]
    (rule,) = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["containerName"]) == ("FailJob", rendered.container["name"])
    assert rule["onExitCodes"]["values"] == [code for code in range(1, 256) if code < 128]
    assert {code for code in POD_EXIT_MEANINGS if 0 < code < 128} <= set(rule["onExitCodes"]["values"])
    # permanent codes end the run; any other starts all pods anew, at once
    (permanent,) = runtime["failurePolicy"]["rules"]
    assert (permanent["action"], permanent["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert (job["template"]["spec"]["backoffLimit"], rendered.pod["restartPolicy"]) == (0, "Never")


@pytest.mark.parametrize(
    ("values", "restarts"),
    [
        ({}, 40),
        ({"set": {"max_attempts": 3}}, 6),
        ({"runPolicy": {"backoffLimit": 0}}, 0),
        (
            {
                "config": to_json(
                    resolve(
                        load_dataset("demo"), "tac", name="my-run", store={"uri": "s3://b"}, root="/d",
                        overrides={"gpus": 8, "max_attempts": 7},
                    )
                ),
                "dataset": "demo",
            },
            14,
        ),
    ],
)  # fmt: skip
def test_the_runs_own_count_of_attempts_ends_before_jobsets(render, values, restarts):
    runtime = render(job={"api": "trainjob"}, **values)["TrainingRuntime"]
    assert runtime["spec"]["template"]["spec"]["failurePolicy"]["maxRestarts"] == restarts


def test_a_trainjob_takes_up_what_a_pytorchjob_does(render):
    values = {"queue": "team", "annotations": {"why": "x"}, "runPolicy": {"suspend": True, "activeDeadlineSeconds": 60}}
    pytorch, train = (render(job={"api": api}, **values) for api in ("pytorchjob", "trainjob"))
    assert train["TrainJob"]["metadata"] == pytorch["PyTorchJob"]["metadata"]
    assert (train["TrainJob"]["spec"]["suspend"], train["TrainJob"]["spec"]["activeDeadlineSeconds"]) == (True, 60)
    ours, theirs = train.pod, pytorch.pod
    assert ours.pop("restartPolicy") == "Never"
    # The training operator looks at a deadline only when a pod changes; Kubeflow Trainer keeps it by itself.
    assert theirs.pop("activeDeadlineSeconds") == 60
    ours["containers"][0]["name"] = theirs["containers"][0]["name"]
    assert ours == theirs


def test_a_time_to_live_that_a_trainjob_has_not_is_refused(render):
    with pytest.raises(HelmError, match=r"runPolicy\.ttlSecondsAfterFinished: TrainJobs do not support it"):
        render(job={"api": "trainjob"}, runPolicy={"ttlSecondsAfterFinished": 60})


def test_helm_sends_the_runtime_before_the_trainjob(helm):
    """Kubeflow Trainer refuses a TrainJob whose runtime it has not seen."""
    command = [helm, "template", "my-run", str(CHART), "-f", "-"]
    values = json.dumps({**ENOUGH, "job": {"api": "trainjob"}})
    text = subprocess.run(command, input=values, capture_output=True, text=True, check=True).stdout
    kinds = [item["kind"] for item in yaml.load_all(text, yaml.CSafeLoader) if item]
    assert kinds.index("List") < kinds.index("TrainJob")


GANGS = {"volcano": "volcano", "coscheduling": "scheduler-plugins-scheduler"}


@pytest.mark.parametrize("gang", GANGS)
def test_a_gang_is_asked_for_as_its_controller_has_it(render, gang):
    pytorch = render(gang=gang, gpusPerPod=2)
    assert pytorch["PyTorchJob"]["spec"]["runPolicy"]["schedulingPolicy"] == {"minAvailable": 4}
    # the operator names the scheduler that it was started with
    assert "schedulerName" not in pytorch.pod
    train = render(gang=gang, job={"api": "trainjob"})
    assert train["TrainingRuntime"]["spec"]["podGroupPolicy"] == {gang: {}}
    assert train.pod["schedulerName"] == GANGS[gang]
    assert render(gang=gang, job={"api": "trainjob"}, schedulerName="own").pod["schedulerName"] == "own"


def test_kueue_is_a_gang_where_there_is_a_queue(render):
    with pytest.raises(HelmError, match="gang is kueue, but queue is empty"):
        render(gang="kueue")
    assert "schedulingPolicy" not in render(gang="kueue", queue="team")["PyTorchJob"]["spec"]["runPolicy"]
