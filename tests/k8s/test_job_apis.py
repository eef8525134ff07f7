"""What training can be submitted as, by what the API server lists."""

import re

import pytest

from k8s.job_apis import api_of, no_api, served_apis

PYTORCHJOBS, TRAINJOBS = ("kubeflow.org/v1", "pytorchjobs"), ("trainer.kubeflow.org/v1alpha1", "trainjobs")
OLD = ("kubeflow.org/v2alpha1", "trainjobs")


def serve(api, *resources):
    """Each beside resources whose names come before and after it."""
    versions = {}
    for version, plural in resources:
        names = ["aaa", plural, f"{plural}/status", "zzz"]
        api.objects[f"/apis/{version}"] = {"resources": [{"name": name} for name in names]}
        versions.setdefault(version.partition("/")[0], []).append({"groupVersion": version})
    for group, found in versions.items():
        api.objects[f"/apis/{group}"] = {"versions": found}


def beside(resource):
    return (resource[0], "others")


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([], ()),
        ([PYTORCHJOBS], ("pytorchjob",)),
        ([TRAINJOBS], ("trainjob",)),
        ([PYTORCHJOBS, TRAINJOBS], ("pytorchjob", "trainjob")),
        ([beside(PYTORCHJOBS), beside(TRAINJOBS)], ()),
        ([OLD], ()),
    ],
)
def test_what_is_served_is_what_the_server_lists(api, cluster, resources, expected):
    serve(api, *resources)
    assert served_apis(cluster) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [([], None), (["Job"], None), (["ConfigMap", "PyTorchJob"], "pytorchjob"), (["Job", "TrainJob"], "trainjob"),
     (["TrainingRuntime", "TrainJob", "PyTorchJob"], "trainjob")],
)  # fmt: skip
def test_a_release_trains_with_what_its_objects_are(kinds, expected):
    assert api_of({"kind": kind} for kind in kinds) == expected


@pytest.mark.parametrize(
    ("asked", "resources", "served", "message"),
    [
        (None, [], (), "neither PyTorchJob nor TrainJob"),
        ("trainjob", [PYTORCHJOBS], ("pytorchjob",), "TrainJob, but PyTorchJob"),
        ("pytorchjob", [TRAINJOBS], ("trainjob",), "PyTorchJob, but TrainJob"),
        ("trainjob", [OLD], (), "kubeflow.org/v2alpha1, which is older"),
        (None, [OLD], (), "kubeflow.org/v2alpha1, which is older"),
        ("trainjob", [PYTORCHJOBS, OLD], ("pytorchjob",), "kubeflow.org/v2alpha1, which is older"),
        ("pytorchjob", [TRAINJOBS, OLD], ("trainjob",), "PyTorchJob, but TrainJob"),
        (
            "trainjob",
            [("trainer.kubeflow.org/v1", "trainjobs")],
            (),
            "TrainJob as trainer.kubeflow.org/v1,? (and )?not as trainer.kubeflow.org/v1alpha1: update tspctl",
        ),
        (
            None,
            [("kubeflow.org/v2", "pytorchjobs")],
            (),
            "PyTorchJob as kubeflow.org/v2,? (and )?not as kubeflow.org/v1: have an admin",
        ),
        (
            "pytorchjob",
            [TRAINJOBS, ("kubeflow.org/v2", "pytorchjobs")],
            ("trainjob",),
            "PyTorchJob as kubeflow.org/v2,? (and )?not as kubeflow.org/v1: have an admin",
        ),
        (
            "trainjob",
            [PYTORCHJOBS, ("kubeflow.org/v2", "pytorchjobs"), ("trainer.kubeflow.org/v1", "trainjobs")],
            ("pytorchjob",),
            "TrainJob as trainer.kubeflow.org/v1,? (and )?not as trainer.kubeflow.org/v1alpha1: update tspctl",
        ),
        ("trainjob", [("trainer.kubeflow.org/v1", "others")], (), "neither PyTorchJob nor TrainJob"),
    ],
)
def test_what_cannot_be_submitted_is_told_with_the_way_out(api, cluster, asked, resources, served, message):
    serve(api, *resources)
    said = no_api(cluster, asked and "".join(list(asked)), served)
    assert re.search(message, said), said
