"""No value is silently without effect: it changes what is rendered, is refused, or says for what kinds it is."""

import json

import pytest

from k8s.pod_options import PodOptions, with_pod_options
from tests.chart.conftest import HelmError
from tests.chart.test_every_value import VALUES, tree
from tests.chart.test_schema import SCHEMA, leaves
from tsp.config.recipes import shipped_datasets
from tsp.errors import ConfigError

KINDS = {
    "TrainJob": {"job.api": "trainjob"},
    "Job": {"job.kind": "extract", "job.request": '{"videos": "/v"}', "job.gpu": True},
}
ELSEWHERE = {"lookupNodes", "plan.note", "job.kind", "job.api", "job.request", "job.gpu"}
"""Shown by NOTES.txt or with a cluster, or what makes the kind."""
NOT_FOR = {
    # A site may have these for all that it runs, so they are no contradiction; the text says what they are of.
    "TrainJob": {"masterFirst"},
    "Job": {"gpusPerPod", "clusterName", "gang", "keepTogether", "masterFirst", "runPolicy.backoffLimit"},
}
SAID = ("training", "PyTorchJob", "auxiliary job", "Ranks", "one run")


@pytest.fixture(scope="module")
def rendered(render):
    """Values by dotted keys -> the objects, or what Helm said against them."""
    known = {}

    def look(dotted):
        key = json.dumps(dotted, sort_keys=True)
        if key not in known:
            try:
                known[key] = json.dumps(render(**tree(dotted)).objects)
            except HelmError as error:
                known[key] = error
        return known[key]

    return look


CASES = [(kind, key) for kind in KINDS for key in VALUES if key not in ELSEWHERE]


@pytest.mark.parametrize(("kind", "key"), CASES, ids=lambda text: str(text))
def test_a_value_changes_a_kind_of_job_or_is_refused_or_says_that_it_is_not_for_it(rendered, kind, key):
    given, beside, _, _ = VALUES[key]
    base = {**({} if kind == "Job" and key == "config" else beside), **KINDS[kind]}
    before, after = rendered(base), rendered({**base, key: given})
    assert isinstance(before, str), before
    if key in NOT_FOR[kind]:
        assert before == after
        assert any(text in dict(leaves(SCHEMA))[key]["description"] for text in SAID)
    elif isinstance(after, HelmError):
        assert key.rpartition(".")[2] in str(after)
    else:
        assert before != after


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"request": "{}"}, "job.request has no effect on training"),
        ({"gpu": True}, "job.gpu has no effect on training"),
        ({"shards": 4}, "job.shards has no effect on training"),
    ],
)
def test_what_only_an_auxiliary_job_has_is_refused_of_training(render, value, named):
    with pytest.raises(HelmError, match=named):
        render(job=value)


OWN = ["name", "instance", "part-of", "component", "version", "managed-by"]
OWN_KEYS = [
    *((group, f"app.kubernetes.io/{key}") for group in ("labels", "podLabels") for key in OWN),
    *((group, "helm.sh/chart") for group in ("labels", "podLabels")),
    *((group, key) for group in ("annotations", "podAnnotations") for key in ("tspctl/store", "tspctl/stopped")),
    ("podAnnotations", "kubectl.kubernetes.io/default-container"),
    ("podAnnotations", "tspctl/ranks-per-pod"),
]


@pytest.mark.parametrize(("group", "key"), OWN_KEYS)
def test_labels_and_annotations_by_which_runs_are_found_cannot_be_overwritten(render, group, key):
    """YAML's later key would win, and the run would be listed nowhere."""
    with pytest.raises(HelmError, match=f"{group} contains {key}, which the chart itself sets"):
        render(**{group: {key: "mine"}})


@pytest.mark.parametrize("group", ["labels", "podLabels", "annotations", "podAnnotations"])
def test_labels_and_annotations_of_others_can_be_set(render, group):
    others = {"app.kubernetes.io/created-by": "us", "kueue.x-k8s.io/priority-class": "high", "team": "video"}
    assert json.dumps("us") in json.dumps(render(**{group: others}).objects)


OWN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "PET_NNODES", "TSP_CONFIG", "HOME")


@pytest.mark.parametrize("name", [*OWN_VARIABLES, "CUDA_VISIBLE_DEVICES", "MY_RANK", "NCCL_DEBUG", "HOMEPAGE"])
def test_chart_and_command_line_agree_on_variables_that_cannot_be_overridden(render, name):
    try:
        with_pod_options({}, PodOptions(env=(f"{name}=x",)))
    except ConfigError:
        with pytest.raises(HelmError, match=f"extraEnv contains {name}, which is set for each rank"):
            render(extraEnv=[{"name": name, "value": "x"}])
    else:
        assert {"name": name, "value": "x"} in render(extraEnv=[{"name": name, "value": "x"}]).container["env"]


def keys(schema, way=()):
    """Every key of the values with its schema, groups among them."""
    for key, item in schema["properties"].items():
        yield ".".join((*way, key)), item
        if "properties" in item and "description" not in item:
            yield from keys(item, (*way, key))


def is_empty_for_null(item):
    return item["type"] == "array" or (item["type"] == "object" and ("properties" not in item or "description" in item))


NULLS = {key: item for key, item in keys(SCHEMA)}


@pytest.mark.parametrize("key", NULLS)
@pytest.mark.parametrize("kind", ["train", "extract"])
def test_null_is_empty_or_refused_by_name_rather_than_rendered(render, key, kind):
    """Helm takes null as a wish to delete the default. Templates would render it as nothing, 0 or <nil>."""
    *way, last = key.split(".")
    values = {} if kind == "train" else {"job": {"kind": kind, "request": "{}"}}
    here = values
    for step in way:
        here = here.setdefault(step, {})
    here[last] = None
    item = NULLS[key]
    kinds = item.get("type") or ""
    if "null" in kinds or (kinds and is_empty_for_null(item)):
        assert "<nil>" not in json.dumps(render(**values).objects)
        return
    with pytest.raises(HelmError, match=f"missing propert.*'{last}'"):
        render(**values)


@pytest.mark.parametrize("dataset", [*shipped_datasets(), "/data/ours.yaml", "/data/ours.yml"])
def test_a_data_set_that_pods_know_is_accepted(render, dataset):
    assert json.loads(render(dataset=dataset).config)["request"]["dataset"] == dataset


@pytest.mark.parametrize("dataset", ["thumos15", "THUMOS14", "ours.yaml.txt", "s3://b/data"])
def test_a_data_set_that_pods_do_not_know_is_refused_before_they_start(render, dataset):
    with pytest.raises(HelmError, match=f'unknown dataset "{dataset}": use thumos14, activitynet, demo'):
        render(dataset=dataset)


def test_a_request_of_nothing_is_one(render):
    requests = render(resources={"requests": {"cpu": 0, "memory": "0"}}).container["resources"]["requests"]
    assert requests == {"cpu": 0, "memory": "0"}


@pytest.mark.parametrize(
    "values",
    [
        {"extraEnv": [{"nmae": "A", "value": "b"}]},
        {"extraEnv": [{"value": "b"}]},
        {"extraEnv": [{"name": "A", "value": [1]}]},
        {"extraEnv": [{"name": "1A", "value": "b"}]},
        {"extraVolumes": [{"emptyDir": {}}]},
        {"extraVolumeMounts": [{"name": "x"}]},
        {"gpuResource": "GPU"},
        {"gpuMemory": 0},
    ],
)
def test_helm_refuses_what_kubernetes_would_or_what_would_be_ignored(render, values):
    with pytest.raises(HelmError, match="don't meet the specifications"):
        render(**values)
