"""Factorised convolutions on views: the same numbers, to the bit where stated, the same names, nothing copied."""

import copy

import pytest
import torch
from torch import nn

from tsp.model.backbone import build_backbone
from tsp.model.conv_views import ViewConv3d, convolve_on_views


def pair(which, **options):
    torch.manual_seed(0)
    plain = nn.Conv3d(**{"in_channels": 6, "out_channels": 10, **options}).to(memory_format=torch.channels_last_3d)
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


def results_of(conv, clip):
    """Output, and gradients of the input and of the weights."""
    clip = clip.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    output = conv(clip)
    output.backward(torch.randn(output.shape, generator=torch.Generator().manual_seed(2)))
    return [output.detach(), clip.grad, *(parameter.grad for parameter in conv.parameters())]


def random_clip(*shape):
    clip = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return clip.contiguous(memory_format=torch.channels_last_3d)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def is_by_onednn(conv, clip):
    """Whether torch computes a three-dimensional convolution by oneDNN."""
    backend = torch._C._select_conv_backend(
        clip, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, False, [0, 0, 0], conv.groups, None
    )
    return backend == torch._C._ConvBackend.Mkldnn


def layers_of(backbone):
    """The distinct factorised convolutions of an encoder as (options of Conv3d, frames and side of its input)."""
    with torch.device("meta"):
        encoder, found = build_backbone(backbone), {}

        def note(conv, inputs, _):
            options = {name: getattr(conv, name) for name in
                       ("in_channels", "out_channels", "kernel_size", "stride", "padding")}  # fmt: skip
            found.setdefault((*options.values(), inputs[0].shape[2:4]), options)

        for module in encoder.modules():
            if isinstance(module, nn.Conv3d) and 1 in module.kernel_size and max(module.kernel_size) > 1:
                module.register_forward_hook(note)
        encoder(torch.zeros(2, 3, 8, 64, 64))
    return [(options, *key[-1]) for key, options in found.items()]


@pytest.mark.parametrize(("backbone", "num_clips"), [("r2plus1d_34", 2), ("r2plus1d_18", 1)])
def test_every_layer_is_equal_to_the_bit_where_torch_computes_both_by_onednn(backbone, num_clips, threads):
    equal = {"spatial": 0, "temporal": 0}
    layers = layers_of(backbone)
    for options, frames, side in layers:
        plain, views = pair("all", **options, bias=False)
        clip = random_clip(num_clips, plain.in_channels, frames, side, side)
        found, expected = results_of(views, clip), results_of(plain, clip)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
        if not is_by_onednn(plain, clip):
            continue
        kind = "spatial" if plain.kernel_size[0] == 1 else "temporal"
        equal[kind] += 1
        exact = 3 if kind == "spatial" and threads == 1 else 2
        assert all(torch.equal(one, other) for one, other in zip(found[:exact], expected[:exact], strict=True)), options
    if num_clips > 1:  # as in training
        assert equal["spatial"] == sum(options["kernel_size"][0] == 1 for options, *_ in layers) >= 8
        assert equal["temporal"] >= (8 if threads > 1 else 3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", SPATIAL + TEMPORAL)
def test_output_and_gradients_are_those_of_the_plain_convolution_bias_included(options, bias):
    plain, views = pair("all", **options, bias=bias)
    clip = random_clip(2, 6, 8, 14, 18)
    for one, other in zip(results_of(plain, clip), results_of(views, clip), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


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
    [("r2plus1d_18", "off", 0), ("r3d_18", "all", 0), ("r2plus1d_34", "spatial", 33), ("r2plus1d_34", "all", 66)],
)
def test_convolutions_that_are_not_chosen_or_not_factorised_stay(backbone, which, count):
    with torch.device("meta"):
        encoder = build_backbone(backbone)
    assert convolve_on_views(encoder, which) == count
    assert sum(type(module) is ViewConv3d for module in encoder.modules()) == count


@pytest.mark.parametrize(("backbone", "which", "count"), [("r2plus1d_18", "spatial", 17), ("r2plus1d_18", "all", 34)])
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
