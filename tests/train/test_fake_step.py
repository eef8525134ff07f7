"""Whole steps over tensors that have shapes, strides and devices but no values: what would wait for a GPU fails.

torch's autograd engine asks the driver for its devices, so without a card whole steps are made over fake tensors
of the CPU, and forward passes over fake tensors of a GPU.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tsp.config.run import OptimConfig, ScheduleConfig
from tsp.config.sizing import EffectiveSizes
from tsp.data import transforms
from tsp.data.batch import ClipBatch
from tsp.model.backbone import BACKBONES
from tsp.model.conv_views import convolve_on_views
from tsp.model.heads import HeadSpec, TspModel
from tsp.model.recompute import recompute_blocks
from tsp.train.batches import DeviceBatch
from tsp.train.distributed import Group, RankEnv
from tsp.train.precision import Numerics
from tsp.train.schedule import build_optimizer, build_scheduler
from tsp.train.step import Stepper

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
SIZES = EffectiveSizes(
    downscale=1, world_size=1, batch_per_gpu=2, global_batch=2, backbone_lr=0.05, head_lr=0.05, stem_lr=0.0
)
HEADS = {
    "gvf": (("action-label", 20, False), ("temporal-region-label", 2, True)),
    "no gvf": (("action-label", 20, False), ("temporal-region-label", 2, False)),
    "region alone": (("temporal-region-label", 2, True),),
    "action alone": (("action-label", 20, False),),
}
MOST_CALLS = {
    "tiny": {"fp32": 394, "bf16": 518, "fp16": 547},
    "r3d_18": {"fp32": 1139, "bf16": 1386, "fp16": 1451},
    "r2plus1d_18": {"fp32": 1909, "bf16": 2276, "fp16": 2389},
    "r2plus1d_34": {"fp32": 3493, "bf16": 4100, "fp16": 4309},
}
"""Operations of a step, none of which may rise; without values torch takes some apart that a GPU does at once.

A CPU that convolves a half precision itself needs three more for the tiny encoder in it; these are of one that does.
"""


class Calls(TorchDispatchMode):
    """Counts operations that compute; views cost nothing on a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def fake_stepper(mode, backbone, precision, heads, device, *, recompute=False, conv2d="off"):
    with torch.device("meta"):
        specs = [HeadSpec(label_column=name, num_classes=count, sees_gvf=gvf) for name, count, gvf in heads]
        model = TspModel(backbone, specs)
    model.to(memory_format=torch.channels_last_3d)
    with mode:
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                fake = torch.empty_strided(value.shape, value.stride(), device=device)
                module._parameters[name] = torch.nn.Parameter(fake)
            for name, value in module.named_buffers(recurse=False):
                fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
                module._buffers[name] = fake
        convolve_on_views(model.features, conv2d)
        if recompute:
            recompute_blocks(model.features)
        optimizer = build_optimizer(model, SIZES, OptimConfig())
        scheduler = build_scheduler(optimizer, ScheduleConfig(), num_steps=100)
        stepper = Stepper(
            model,
            optimizer,
            scheduler,
            loss_weights=(1.0,) * len(heads),
            numerics=Numerics(device=device, precision=precision),
            group=Group(RankEnv(), device),
        )
    stepper._delay = 100
    return stepper


def fake_batch(device, num_heads):
    clips = torch.empty(2, 3, 16, 112, 112, device=device).to(memory_format=torch.channels_last_3d)
    targets = torch.empty(2, num_heads, dtype=torch.int64, device=device)
    return DeviceBatch(clips, torch.empty(2, 512, device=device), targets, ("a", "b"), 0)


@pytest.fixture
def mode():
    transforms.constants.cache_clear()
    yield FakeTensorMode()
    transforms.constants.cache_clear()


@pytest.mark.thorough
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_reads_nothing_makes_few_calls_and_lays_gradients_out_as_weights(mode, backbone, precision):
    stepper = fake_stepper(mode, backbone, precision, HEADS["gvf"], CPU)
    with mode:
        batch = fake_batch(CPU, 2)
        stepper(0, batch, stop=False)
        with Calls() as calls:
            stepper(1, batch, stop=False)
    assert calls.count <= MOST_CALLS[backbone][precision]
    trained = {name: item for name, item in stepper.model.named_parameters() if item.requires_grad}
    assert len(trained) > 4
    meaningless = {"fc.weight", "fc1.weight", "fc2.weight"}
    for name, parameter in trained.items():
        if name not in meaningless and 1 not in parameter.shape[2:]:
            assert parameter.grad.stride() == parameter.stride(), name
    with mode, pytest.raises(DataDependentOutputException):
        stepper.flush()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("heads", "options"),
    [
        ("no gvf", {}),
        ("region alone", {}),
        ("action alone", {}),
        ("gvf", {"recompute": True}),
        ("gvf", {"conv2d": "spatial"}),
        ("gvf", {"conv2d": "all"}),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_ablation_or_option_reads_anything(mode, heads, options, precision):
    stepper = fake_stepper(mode, "r2plus1d_18", precision, HEADS[heads], CPU, **options)
    with mode:
        assert stepper(0, fake_batch(CPU, len(HEADS[heads])), stop=False) == []


@pytest.fixture
def autocasting(monkeypatch):
    """Has autocast believe in a card: else it warns and does nothing, and every step would be one in fp32."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)


# Of the step itself: connections of earlier tests may be collected, and warned of, meanwhile.
@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_forward_pass_and_its_losses_read_nothing_of_a_gpu(mode, autocasting, backbone, precision):
    stepper = fake_stepper(mode, backbone, precision, HEADS["gvf"], GPU)
    formats = {}
    for name, module in stepper.model.features.named_modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.Linear):
            module.register_forward_hook(lambda _, given, output, name=name: formats.update({name: output.dtype}))
    with mode:
        _, loss, is_bad = stepper._forward(fake_batch(GPU, 2))
    assert set(formats.values()) == {stepper.numerics.dtype}
    assert (loss.device, loss.dtype, is_bad.shape) == (GPU, torch.float32, ())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_extracting_features_reads_nothing_of_a_gpu(mode, backbone):
    stepper = fake_stepper(mode, backbone, "fp32", HEADS["gvf"], GPU)
    with mode, torch.inference_mode():
        features = stepper.model.features.eval()(fake_batch(GPU, 2).clips)
    assert features.shape == (2, 512)


@pytest.mark.parametrize("side_px", [224, 112])
def test_the_transforms_wait_for_nothing(mode, side_px):
    with mode:
        weights = torch.empty(2, 112, device=GPU) if side_px == 224 else None
        batch = ClipBatch(
            pixels=torch.empty(2, 16, side_px, side_px, 4, dtype=torch.uint8, device=GPU),
            row_weights=weights,
            column_weights=weights,
            targets=torch.empty(2, 2, dtype=torch.int64, device=GPU),
            gvf=None,
            items=torch.empty(2, dtype=torch.int64, device=GPU),
            names=("a", "b"),
            num_bad=0,
        )
        with Calls() as calls:
            transforms.pixels_on_device(batch, GPU)
            first = calls.count
            clips = transforms.pixels_on_device(batch, GPU)
    assert clips.shape == (2, 3, 16, 112, 112)
    assert clips.is_contiguous(memory_format=torch.channels_last_3d)
    assert calls.count - first <= 41
    assert first > calls.count - first, "the constants are made each time"
