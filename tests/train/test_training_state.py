"""The model of a configuration."""

from dataclasses import replace

import pytest

from tests.config.test_run import make
from tsp.config.run import HeadConfig
from tsp.train.training_state import build_model


@pytest.mark.parametrize(
    ("gvf", "seeing"), [("max", ["temporal-region-label"]), ("avg", ["temporal-region-label"]), ("none", [])]
)
def test_only_the_temporal_region_head_sees_the_gvf_whatever_the_others_are_called(gvf, seeing):
    columns = ["temporal-region-label", "verb-label"]
    heads = tuple(HeadConfig(label_column=column, labels=f"{column}.json") for column in columns)
    model = build_model(replace(make().model, backbone="tiny", heads=heads, gvf=gvf), [2, 4], seed=0)
    assert [head.label_column for head in model.heads if head.sees_gvf] == seeing
