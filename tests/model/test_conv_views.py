"""Factorised convolutions on views: the same numbers to the bit, the same names, nothing copied."""

import copy

import pytest
import torch
from torch import nn

from tsp.model.backbone import build_backbone
from tsp.model.conv_views import ViewConv3d, convolve_on_views


def pair(which, **options):
    torch.manual_seed(0)
    plain = nn.Conv3d(6, 10, **options).to(memory_format=torch.channels_last_3d)
    views = nn.Sequential(copy.deepcopy(plain))
    assert convolve_on_views(views, which) == 1
    assert type(views[0]) is ViewConv3d
    return plain, views[0]


SPATIAL = [
    {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)},
    {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "stride": (1, 2, 2)},
    {"kernel_size": (1, 7, 7), "padding": (0, 3, 3), "stride": (1, 2, 2)},
]
TEMPORAL = [
    {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)},
    {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "stride": (2, 1, 1)},
]


def outputs_and_gradients(conv):
    clip = torch.randn(2, 6, 8, 14, 18, generator=torch.Generator().manual_seed(1))
    clip = clip.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    output = conv(clip)
    output.square().mean().backward()
    return [output.detach(), clip.grad, *(parameter.grad for parameter in conv.parameters())]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", SPATIAL)
def test_in_space_output_and_gradients_are_equal_to_the_bit(options, bias):
    plain, views = pair("spatial", **options, bias=bias)
    results = outputs_and_gradients(plain), outputs_and_gradients(views)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", TEMPORAL)
def test_in_time_output_and_gradients_are_equal_up_to_the_order_of_sums(options, bias):
    plain, views = pair("all", **options, bias=bias)
    for one, other in zip(outputs_and_gradients(plain), outputs_and_gradients(views), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", SPATIAL + TEMPORAL)
def test_nothing_is_copied_and_layouts_stay(options):
    _, views = pair("all", **options, bias=False)
    clip = torch.randn(2, 6, 8, 14, 18).contiguous(memory_format=torch.channels_last_3d)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        kept = []
        output = views(clip.requires_grad_())
    assert clip.data_ptr() in {tensor.data_ptr() for tensor in kept}
    assert output.is_contiguous(memory_format=torch.channels_last_3d)
    output.sum().backward()
    assert [item.grad.stride() for item in views.parameters()] == [item.stride() for item in views.parameters()]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 1},
        {"kernel_size": (1, 3, 3), "dilation": 2},
        {"kernel_size": (1, 3, 3), "stride": 2},
        {"kernel_size": (3, 1, 1), "groups": 2},
    ],
)
def test_other_convolutions_stay_as_they_are(options):
    holder = nn.Sequential(nn.Conv3d(6, 10, **options))
    assert convolve_on_views(holder, "all") == 0
    assert type(holder[0]) is nn.Conv3d


@pytest.mark.parametrize(
    ("backbone", "which", "count"),
    [("r2plus1d_18", "spatial", 17), ("r2plus1d_18", "all", 34), ("r2plus1d_18", "off", 0), ("r3d_18", "all", 0)],
)
def test_an_encoder_keeps_its_names_features_and_gradients(backbone, which, count):
    torch.manual_seed(0)
    # In evaluation: statistics of a small batch would blow rounding up.
    plain = build_backbone(backbone).to(memory_format=torch.channels_last_3d).eval()
    views = copy.deepcopy(plain)
    assert convolve_on_views(views, which) == count
    assert list(views.state_dict()) == list(plain.state_dict())
    clips = torch.randn(2, 3, 4, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    outputs = [network(clips) for network in (plain, views)]
    for output in outputs:
        output.square().mean().backward()
    gradients = [[parameter.grad for parameter in network.parameters()] for network in (plain, views)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 + 1e-4 * float(one.abs().max()))
    if count == 0:
        assert torch.equal(*outputs)
