"""What a cluster cannot do is refused in a line: the object, the cure, the exit code; nothing is created."""

import pytest

from tests.cli.backends.cluster.test_one_install import SUBMIT
from tests.cli.backends.cluster.test_one_install import api as api
from tests.cli.backends.cluster.test_one_install import tspctl as tspctl
from tests.k8s.serving import gpu_node

PYTORCHJOBS = "/apis/kubeflow.org/v1"
TRAINJOBS = "/apis/trainer.kubeflow.org/v1alpha1"
APIS = ("pytorchjob", "trainjob")
OPERATOR = {
    "metadata": {"name": "training-operator", "namespace": "kubeflow", "uid": "1"},
    "spec": {"template": {"spec": {"containers": [{"args": []}]}}},
    "status": {"availableReplicas": 1},
}


def without(*paths):
    return lambda api: [api.objects.pop(path, None) for path in paths]


def nodes_of(*gpus):
    nodes = [gpu_node(f"node-{index}", "16384", gpus=count) for index, count in enumerate(gpus)]
    return lambda api: api.objects.update({"/api/v1/nodes": nodes})


def old_trainer(api):
    without(PYTORCHJOBS, TRAINJOBS)(api)
    api.objects["/apis/kubeflow.org/v2alpha1"] = {"resources": [{"name": "trainjobs"}]}


def operator_without_gang(api):
    api.objects["/apis"]["groups"].append({"name": "scheduling.volcano.sh"})
    api.objects["/apis/apps/v1/deployments"] = [OPERATOR]


def untouched(api):
    """The cluster is well."""


ROWS = [
    (untouched, ("--gpus-per-pod", "3"), "pytorchjob", 2, ("--gpus-per-pod 3", "--gpus 8")),
    (untouched, ("--gpus-per-pod", "5"), "trainjob", 2, ("--gpus-per-pod 5", "--gpus 8")),
    (untouched, ("--gang", "kueue"), "trainjob", 2, ("--gang kueue", "--queue")),
    (nodes_of("7", "5"), ("--gpus-per-pod", "8"), "trainjob", 4, ("8 GPUs of a pod", "another --gpus-per-pod")),
    (nodes_of("7", "3"), ("--gpus-per-pod", "4"), "pytorchjob", 4, ("in pods of 4", "another --gpus-per-pod")),
    (untouched, ("--gang", "volcano"), "trainjob", 4, ("--gang volcano", "scheduling.volcano.sh", "install")),
    (untouched, ("--gang", "coscheduling"), "pytorchjob", 4, ("--gang coscheduling", "scheduling.x-k8s.io", "install")),
    (operator_without_gang, ("--gang", "volcano"), "pytorchjob", 4,
     ("kubeflow/training-operator runs without gang scheduling", "--gang-scheduler-name")),
    (old_trainer, (), "auto", 4, ("kubeflow.org/v2alpha1", "older than Kubeflow Trainer 2.0", "update")),
    (old_trainer, (), "trainjob", 4, ("kubeflow.org/v2alpha1", "older than Kubeflow Trainer 2.0", "update")),
    (without(PYTORCHJOBS, TRAINJOBS), (), "auto", 4, ("neither PyTorchJob nor TrainJob", "install")),
    (without(TRAINJOBS), (), "trainjob", 4, ("does not serve TrainJob", "leave out --job-api")),
    (without(PYTORCHJOBS), (), "pytorchjob", 4, ("does not serve PyTorchJob", "leave out --job-api")),
]  # fmt: skip


@pytest.mark.parametrize(("break_it", "options", "job_api", "code", "said"), ROWS)
def test_what_a_cluster_cannot_do_is_refused_and_nothing_is_created(
    tspctl, api, break_it, options, job_api, code, said
):
    nodes_of("8")(api)
    api.objects["/apis/jobset.x-k8s.io/v1alpha2"] = {"resources": []}
    break_it(api)
    before = set(api.objects)
    done = tspctl(*SUBMIT, "--gpus", "8", *options, "--job-api", job_api)
    assert done.code == code, done.err
    last = done.err.strip().splitlines()[-1]
    assert all(words in last for words in said), done.err
    assert set(api.objects) == before


NO_NAMES = [
    "my run", "my-run ", " my-run", "a" * 64, "\u00dcn\u00ef", "a=b", "my-run,name=my-run", "*", "my-run?",
    "my-run%20", "my-run#x", "my-run;ls", "a:b", "a@b", "a\nb", "~", "-x", "my-run\x1b[31m", "''",
]  # fmt: skip


@pytest.mark.parametrize("command", [("status",), ("logs",), ("cancel",), ("resume",), ("wait",), ("delete", "--yes")])
def test_text_that_is_no_name_is_no_run_and_never_part_of_a_request(tspctl, api, command):
    """``my-run,name=my-run`` was a run whose job somebody had deleted; the others were errors of the API server."""
    assert tspctl(*SUBMIT, "--gpus", "1", "--name", "my-run").code == 0
    for name in NO_NAMES:
        before = len(api.requests)
        answer = tspctl(*command, "--", name)
        assert (answer.code, answer.out) == (102, ""), name
        assert f"no run {name!r} in" in answer.err
        assert not [line for line in api.requests[before:] if "my-run" in line[1] or "my-run" in str(line[2])], name
