"""The configuration that pods read: what the chart writes is what the recipes say."""

import dataclasses
import json
from dataclasses import replace

import pytest

from tests.chart.conftest import HelmError
from tsp.config.codec import to_dict
from tsp.config.pod_request import config_from_pod
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import to_json
from tsp.config.store import StoreConfig

STORE = {"uri": "s3://bucket/runs"}


def recipe(dataset, method, **options):
    return resolve(load_dataset(dataset), method, name="my-run", store=STORE, root="/data", **options)


@pytest.mark.parametrize("gpus", [1, 64])
@pytest.mark.parametrize("method", ["tsp", "tac"])
@pytest.mark.parametrize("dataset", ["thumos14", "activitynet", "demo"])
def test_every_recipe_reaches_the_pod_whole(render, dataset, method, gpus):
    rendered = render(dataset=dataset, method=method, gpus=gpus, data={"claim": "videos"})
    assert config_from_pod(rendered.config) == recipe(dataset, method, overrides={"gpus": gpus})


def test_every_value_of_a_request_reaches_the_configuration(render):
    config = config_from_pod(
        render(
            method="tsp",
            heads="region",
            gvf="avg",
            backbone="r2plus1d_18",
            epochs=3,
            pretrained="none",
            precision="fp32",
            downscale=2,
            data={"uri": "s3://videos/thumos14"},
            set={"optim.head_lr": "4e-3", "schedule.milestones": [1, 2], "model.compile": True, "seed": 7},
            store={
                "uri": "s3://b",
                "endpointUrl": "http://m",
                "region": "eu",
                "pathStyle": False,
                "checksums": "when_required",
            },
        ).config
    )
    assert [head.label_column for head in config.model.heads] == ["temporal-region-label"]
    assert (config.model.gvf, config.data.train.gvf) == ("avg", "r2plus1d_18-avg_gvf.h5")
    assert (config.model.backbone, config.model.pretrained, config.model.precision) == ("r2plus1d_18", "none", "fp32")
    assert (config.schedule.epochs, config.schedule.milestones, config.downscale) == (3, (1, 2), "2")
    assert (config.optim.head_lr, config.model.compile, config.seed, config.gpus) == (4e-3, True, 7, 8)
    assert (config.data.root, config.data.cache_dir) == ("s3://videos/thumos14", "/cache/videos")
    assert to_dict(config.store) == {
        "uri": "s3://b",
        "endpoint_url": "http://m",
        "region": "eu",
        "path_style": False,
        "ca_bundle": None,
        "checksums": "when_required",
    }


def test_a_set_value_wins_over_the_named_one(render):
    values = {"epochs": 3, "set": {"schedule.epochs": 5}, "data": {"claim": "videos"}}
    assert config_from_pod(render(**values).config).schedule.epochs == 5


def test_a_whole_configuration_travels_untouched(render):
    config = replace(recipe("thumos14", "tsp"), gpus=2, seed=2**62 + 1)
    text = render(bare=True, gpus=2, config=to_json(config)).config
    assert text == to_json(config)
    assert config_from_pod(text) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpus": 3}, "config.gpus is 1, but gpus is 3"),
        ({"name": "other"}, 'config.name is "my-run", but the release is "other"'),
        ({"config": "{"}, "config is not JSON"),
    ],
)
def test_a_configuration_of_another_run_is_refused(render, values, message):
    values = {"gpus": 1, "config": to_json(recipe("thumos14", "tac")), **values}
    with pytest.raises(HelmError, match=message):
        render(bare=True, **values)


BESIDE = {
    "method": ("tsp", "method is tsp, but config.method is tac"),
    "dataset": ("demo", "dataset is demo, but config.data.name is thumos14"),
    "backbone": ("r3d_18", "backbone is r3d_18, but config.model.backbone is r2plus1d_34"),
    "gvf": ("max", "gvf is max, but config.model.gvf is none"),
    "pretrained": ("none", "pretrained is none, but config.model.pretrained is default"),
    "precision": ("bf16", "precision is bf16, but config.model.precision is auto"),
    "epochs": (3, "epochs is 3, but config.schedule.epochs is 8"),
    "downscale": ("4", "downscale is 4, but config.downscale is 2"),
    "heads": ("all", "heads has no effect beside config"),
    "set": ({"seed": 7}, "set has no effect beside config"),
    "gpuMemory": ("16384", "gpuMemory has no effect beside config"),
    "lookupNodes": (True, "lookupNodes has no effect beside config"),
    "store": ({"endpointUrl": "http://m"}, "store.endpointUrl has no effect beside config"),
    "data": ({"uri": "s3://b"}, "data.uri has no effect beside config"),
}


@pytest.mark.parametrize("key", BESIDE)
def test_a_value_that_a_whole_configuration_contradicts_is_refused_rather_than_ignored(render, key):
    """As ``tspctl submit --chart-value epochs=3``, which trained eight."""
    config = to_json(recipe("thumos14", "tac", overrides={"downscale": "2"}))
    agreeing = {"method": "tac", "dataset": "thumos14", "downscale": 2, "epochs": 8, "gpus": 1}
    assert render(bare=True, **{**agreeing, "config": config}).config == config
    value, message = BESIDE[key]
    with pytest.raises(HelmError, match=message):
        render(bare=True, **{**agreeing, "config": config, key: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": ""}, "dataset is empty"),
        ({"method": ""}, "method is empty"),
        ({"store": {"uri": ""}}, "store.uri is empty"),
    ],
)
def test_what_is_missing_is_named(render, values, message):
    with pytest.raises(HelmError, match=message):
        render(**values)


def contradictions():
    """Keys of ``set`` that a value of the chart is for."""
    instead = {"name": "the release's name", "gpus": "gpus", "downscale": "downscale", "method": "method",
               "data.name": "dataset"}  # fmt: skip
    store = [f"store.{item.name}" for item in dataclasses.fields(StoreConfig)]
    return {**instead, **dict.fromkeys(store, "the values below store")}


@pytest.mark.parametrize(("key", "instead"), contradictions().items())
def test_a_value_that_other_objects_of_the_run_depend_on_cannot_be_changed_behind_their_back(render, key, instead):
    """The pods would train 4 ranks in one, or write where tspctl does not look."""
    with pytest.raises(HelmError, match=f"set contains {key}, on which other parts .* use {instead} instead"):
        render(set={key: 4})


@pytest.mark.parametrize("seed", [2**53, 2**53 + 1, 12345678901234567])
def test_a_number_that_helm_would_round_is_refused(render, seed):
    with pytest.raises(HelmError, match="set contains seed with a number that Helm rounds"):
        render(set={"seed": seed})
    largest = json.loads(render(set={"seed": 2**53 - 1}).config)["request"]["set"]["seed"]
    assert largest == 2**53 - 1


@pytest.mark.parametrize("key", ["store.uri", "data.uri", "pretrained"])
@pytest.mark.parametrize("address", ["gs://b/x", "hf://b/x", "S3://b/x", "s3:/b/x", "s3://", "runs", "file://host/x"])
def test_an_address_that_pods_cannot_use_is_refused(render, key, address):
    group, _, name = key.rpartition(".")
    with pytest.raises(HelmError, match=f"/{key.replace('.', '/')}"):
        render(**({group: {name: address}} if group else {name: address}))


@pytest.mark.parametrize("part", ["limits", "requests"])
def test_a_number_of_gpus_among_the_resources_is_refused_rather_than_ignored(render, part):
    with pytest.raises(HelmError, match=rf"resources\.{part} contains nvidia.com/gpu: .* use gpus and gpusPerPod"):
        render(resources={part: {"nvidia.com/gpu": 4}})


def test_the_configuration_is_a_configmap_that_cannot_be_changed(render):
    assert render()["ConfigMap"]["immutable"] is True
