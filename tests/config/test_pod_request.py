"""What a pod makes of its configuration: a complete one, or a request that it resolves itself."""

import json

import pytest

from tests.config.test_run import make
from tsp.config.pod_request import config_from_pod
from tsp.config.run import to_json
from tsp.errors import ConfigError

STORE = {"uri": "s3://bucket/runs"}
REQUEST = {"dataset": "thumos14", "method": "tsp", "name": "r", "store": STORE, "data": "/data"}


def pod(**changes):
    return config_from_pod(json.dumps({"request": {**REQUEST, **changes}}))


def test_a_request_that_says_the_least_is_the_recipe_on_one_gpu():
    assert pod() == make("thumos14", "tsp", name="r", overrides={"store.uri": STORE["uri"]})
    assert (pod().gpus, pod().downscale) == (1, "auto")


def test_what_a_request_says_wins_over_the_recipe_and_what_it_sets_over_that():
    assert (pod(gpus=4).gpus, pod(gpus=4, set={"gpus": 2}).gpus) == (4, 2)
    assert (pod(downscale="2").downscale, pod(downscale="2", set={"downscale": "4"}).downscale) == ("2", "4")


def test_a_complete_configuration_is_taken_as_it_is():
    config = make("thumos14", "tac", overrides={"gpus": 3, "downscale": "4"})
    assert config_from_pod(to_json(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a mapping"),
        ('{"request": {}, "name": "x"}', "excludes 'name'"),
        ('{"request": {}, "seed": 1, "name": "x"}', "excludes 'name'"),
        ('{"request": []}', "request must be a mapping"),
        ('{"request": {"dataset": "thumos14"}}', "request lacks the key 'method'"),
        ('{"request": {"dataset": "thumos14", "methd": "tsp"}}', "request has an unknown key 'methd'"),
        ('{"request": {"set": ["a=b"]}}', "request.set must map dotted keys"),
    ],
)
def test_a_pod_says_what_is_wrong_with_its_configuration(text, message):
    with pytest.raises(ConfigError, match=message):
        config_from_pod(text)


def test_an_unknown_key_in_set_is_named():
    with pytest.raises(ConfigError, match=r"request\.set\.optim\.lr: there is no 'lr'; known: backbone_lr"):
        pod(set={"optim.lr": 1})
