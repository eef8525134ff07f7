"""What labels, annotations and specs say of jobs and pods, where they say anything at all."""

import pytest

from k8s import names
from k8s.names import JOBS, PYTORCHJOBS, TRAINJOBS, main_container_of, pods_of, rank_of, ranks_in, ranks_of
from tests.k8s.objects import indexed_job, job, node_pod, pod, shard, train_job, with_ranks


def of(*containers, default=None):
    annotations = {"kubectl.kubernetes.io/default-container": default} if default else None
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": name} for name in containers]}}


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (of("pytorch"), "pytorch"),
        (of("proxy", "pytorch", "logs"), "pytorch"),
        (of("proxy", "node"), "node"),
        (of("node", "tsp"), "tsp"),
        (of("proxy", "pytorch", default="proxy"), "pytorch"),
        (of("proxy", "trainer", default="trainer"), "trainer"),
        (of("proxy", "pytorch", default="gone"), "pytorch"),
        (of("first", "second", "third"), "first"),
        (of(), None),
        ({"containers": [{"name": "side"}, {"name": "tsp"}]}, "tsp"),
        ({}, None),
    ],
)
def test_the_charts_container_is_found_beside_others_and_else_the_first_is_meant(found, name):
    assert main_container_of(found).get("name") == name


@pytest.mark.parametrize(
    ("found", "resource", "num_pods", "num_ranks"),
    [
        (job(gpus=1), PYTORCHJOBS, 1, 1),
        (job(gpus=5), PYTORCHJOBS, 5, 5),
        (with_ranks(job(gpus=2), 4), PYTORCHJOBS, 2, 8),
        (train_job(gpus=3), TRAINJOBS, 3, 3),
        (with_ranks(train_job(gpus=3), 2), TRAINJOBS, 3, 6),
        (indexed_job(shards=7), JOBS, 7, 7),
        ({"metadata": {}, "spec": {"pytorchReplicaSpecs": {"Master": {}, "Worker": {}}}}, PYTORCHJOBS, 2, 2),
        ({"metadata": {}, "spec": {"runtimeRef": {}}}, TRAINJOBS, 1, 1),
        ({"metadata": {}, "spec": {"runtimeRef": {}, "trainer": None}}, TRAINJOBS, 1, 1),
        ({"metadata": {}, "spec": {}}, JOBS, 1, 1),
    ],
)
def test_a_job_wants_as_many_pods_as_it_says_and_one_where_it_says_nothing(found, resource, num_pods, num_ranks):
    assert (names.resource_of(found), pods_of(found), ranks_of(found)) == (resource, num_pods, num_ranks)


@pytest.mark.parametrize(
    ("found", "ranks"),
    [
        (pod(0), range(1)),
        (pod(1), range(1, 2)),
        (pod(5), range(5, 6)),
        (with_ranks(pod(0), 4), range(4)),
        (with_ranks(pod(2), 4), range(8, 12)),
        (node_pod(3), range(3, 4)),
        (with_ranks(node_pod(3), 2), range(6, 8)),
        (shard(2), range(2, 3)),
        ({"metadata": {}}, range(1)),
    ],
)
def test_a_pod_holds_its_ranks_the_masters_first(found, ranks):
    assert ranks_in(found) == ranks
    assert rank_of(found) == ranks[0]


def test_what_says_nothing_has_not_been_restarted_and_is_of_no_job():
    bare = {"metadata": {}}
    assert (names.restarts_of(bare), names.restarts_of(node_pod(restarts=3))) == (0, 3)
    assert [names.owner_of(item) for item in (bare, pod(), node_pod(), shard())] == [None, "my-run", "my-run", "my-job"]
    assert [names.kind_of(item) for item in (bare, job(), indexed_job())] == ["train", "train", "extract"]


def test_only_objects_with_both_labels_are_of_a_run():
    labels = {"app.kubernetes.io/part-of": "tspctl", "app.kubernetes.io/instance": "r1"}
    assert names.is_of_run({"metadata": {"labels": labels}}, "r1")
    for wrong in ({**labels, "app.kubernetes.io/instance": "r2"}, {**labels, "app.kubernetes.io/part-of": "x"}, None):
        assert not names.is_of_run({"metadata": {"labels": wrong}}, "r1")


def test_volumes_are_told_by_their_kind():
    volumes = [
        {"name": "a", "configMap": {"name": "settings"}},
        {"name": "b", "persistentVolumeClaim": {"claimName": "videos"}},
        {"name": "c", "emptyDir": {}},
    ]
    template = {"template": {"spec": {"volumes": volumes}}}
    jobset = {"template": {"spec": {"replicatedJobs": [{"template": {"spec": template}}]}}}
    for spec in (template, {"pytorchReplicaSpecs": {"Master": template, "Worker": {}}}, jobset):
        assert names.configmaps_of({"spec": spec}) == ["settings"]
    assert names.configmaps_of({"spec": {}}) == []
    assert names.claims_of({"spec": {"volumes": volumes}}) == ["videos"]
    assert names.claims_of({"spec": {}}) == []
