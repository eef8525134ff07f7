"""Encoders: names, shapes and sizes as published."""

import json

import pytest
import torch
from torch import nn

from tsp.errors import ConfigError
from tsp.model.backbone import BACKBONES, FEATURE_SIZE, build_backbone


@pytest.fixture(scope="module")
def golden(shared_dir):
    return json.loads((shared_dir / "golden" / "tsp_golden.json").read_text())


def shapes_of(backbone):
    """An encoder that has everything but values, which would take most of the time."""
    with torch.device("meta"):
        return build_backbone(backbone)


def without_classifier(shapes):
    return {name: shape for name, shape in shapes.items() if not name.startswith("fc.")}


def test_r2plus1d_34_has_exactly_the_published_names_and_shapes_in_order(golden):
    own = {name: list(value.shape) for name, value in shapes_of("r2plus1d_34").state_dict().items()}
    assert list(own.items()) == list(without_classifier(golden["r2plus1d_34_state_dict"]).items())


def test_r2plus1d_34_has_the_published_number_of_parameters(golden):
    count = sum(parameter.numel() for parameter in shapes_of("r2plus1d_34").parameters())
    assert count == golden["r2plus1d_34_num_parameters_without_fc"] == 63_491_975


def test_every_batch_norm_of_r2plus1d_34_keeps_caffe2s_eps_and_momentum():
    norms = [module for module in shapes_of("r2plus1d_34").modules() if isinstance(module, nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.9)}


@pytest.mark.parametrize(("name", "num_parameters"), [("r2plus1d_18", 31_300_125), ("r3d_18", 33_166_272)])
def test_the_18_layer_encoders_are_torchvisions(name, num_parameters):
    from torchvision.models import video

    own = build_backbone(name)
    theirs = getattr(video, name)(weights=None)
    assert sum(parameter.numel() for parameter in own.parameters()) == num_parameters
    assert list(own.state_dict()) == list(without_classifier(theirs.state_dict()))
    own.load_state_dict(without_classifier(theirs.state_dict()))
    clip = torch.randn(1, 3, 4, 32, 32)
    theirs.fc = nn.Identity()
    with torch.no_grad():
        assert torch.equal(own.eval()(clip), theirs.eval()(clip))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_encoder_has_a_stem_and_gives_512_numbers_a_clip(name):
    encoder = build_backbone(name).eval()
    assert sum(parameter.numel() for parameter in encoder.stem.parameters()) > 0
    with torch.no_grad():
        assert encoder(torch.randn(2, 3, 8, 32, 32)).shape == (2, FEATURE_SIZE)


def test_the_tiny_encoder_stays_tiny():
    assert sum(parameter.numel() for parameter in build_backbone("tiny").parameters()) < 500_000


def test_an_unknown_backbone_is_refused_with_the_names_that_exist():
    with pytest.raises(ConfigError, match=", ".join(BACKBONES)):
        build_backbone("resnet50")
