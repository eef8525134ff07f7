"""The variants of a training step that are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import Conv2d, OptimConfig, ScheduleConfig
from tsp.config.sizing import EffectiveSizes
from tsp.model.conv_views import convolve_on_views
from tsp.model.device import card_of
from tsp.model.heads import HeadSpec, TspModel
from tsp.model.recompute import recompute_blocks
from tsp.train.batches import DeviceBatch
from tsp.train.distributed import Group, RankEnv
from tsp.train.precision import Numerics, choose_numerics
from tsp.train.schedule import build_optimizer, build_scheduler
from tsp.train.step import Stepper

HEADS = (
    HeadSpec(label_column="action-label", num_classes=20),
    HeadSpec(label_column="temporal-region-label", num_classes=2, sees_gvf=True),
)


@dataclass(frozen=True)
class Variant:
    """One variant."""

    name: str
    precision: str = "fp32"
    compile: bool = False
    recompute: bool = False
    conv2d: Conv2d = "off"
    is_original: bool = False
    trains_stem: bool = False
    """As the original does, though its rate is 0."""


ORIGINAL = Variant("original: fp32, waits for the device", is_original=True, trains_stem=True)
VARIANTS = (
    ORIGINAL,
    Variant("ours, fp32"),
    Variant("ours, fp32, recomputed", recompute=True),
    Variant("ours, bf16", "bf16"),
    Variant("ours, bf16, recomputed", "bf16", recompute=True),
    Variant("ours, bf16, compiled", "bf16", compile=True),
)
GPU_VARIANTS = (
    Variant("ours, fp32, compiled", compile=True),
    Variant("ours, fp16", "fp16"),
    Variant("ours, fp16, recomputed", "fp16", recompute=True),
    Variant("ours, fp16, compiled", "fp16", compile=True),
)


@dataclass(frozen=True)
class Shape:
    """A batch of clips."""

    batch: int
    frames: int
    side_px: int


def random_batch(shape: Shape, device: torch.device, layout: torch.memory_format) -> DeviceBatch:
    """Clips of noise with labels and GVF."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(shape.batch, 3, shape.frames, shape.side_px, shape.side_px, generator=generator)
    targets = torch.stack([torch.arange(shape.batch) % 20, torch.arange(shape.batch) % 2], dim=1)
    names = ("noise",) * shape.batch
    clips = clips.to(device).contiguous(memory_format=layout)
    return DeviceBatch(clips, torch.rand(shape.batch, 512).to(device), targets.to(device), names, 0)


def make_step(backbone: str, shape: Shape, variant: Variant, device: torch.device) -> Callable[[], object]:
    """A callable that makes a step of this variant."""
    return original_step(backbone, shape, device) if variant.is_original else our_step(backbone, shape, variant, device)


def our_step(backbone: str, shape: Shape, variant: Variant, device: torch.device) -> Callable[[], object]:
    """A step as the training loop makes it."""
    stepper = make_stepper(backbone, shape.batch, variant, device)
    batch = random_batch(shape, device, torch.channels_last_3d)
    return lambda: stepper(0, batch, stop=False)


def make_stepper(backbone: str, batch: int, variant: Variant, device: torch.device) -> Stepper:
    """Model, optimizer and schedule of this variant."""
    model, numerics = make_model(backbone, variant, device)
    return stepper_of(model, batch, variant, numerics, Stepper)


def make_model(backbone: str, variant: Variant, device: torch.device) -> tuple[TspModel, Numerics]:
    """The model on its device, with random weights."""
    torch.manual_seed(0)
    model = TspModel(backbone, HEADS)
    config = resolve(load_dataset("demo"), "tsp", name="bench", store={"uri": "/tmp"}, root="/tmp").model
    card = card_of(device)
    choose_numerics(device, config, [card] if card else [])
    numerics = Numerics(device=device, precision=variant.precision)
    convolve_on_views(model.features, variant.conv2d)
    numerics.prepare(model)
    if variant.recompute:
        recompute_blocks(model.features)
    return model, numerics


S = TypeVar("S", bound=Stepper)


def stepper_of(model: TspModel, batch: int, variant: Variant, numerics: Numerics, kind: type[S]) -> S:
    """A stepper of a kind over a model."""
    sizes = EffectiveSizes(
        downscale=1,
        world_size=1,
        batch_per_gpu=batch,
        global_batch=batch,
        backbone_lr=1e-4,
        head_lr=2e-3,
        stem_lr=1e-9 if variant.trains_stem else 0.0,
    )
    optimizer = build_optimizer(model, sizes, OptimConfig())
    scheduler = build_scheduler(optimizer, ScheduleConfig(), num_steps=1000)
    network = cast(nn.Module, torch.compile(model, dynamic=False)) if variant.compile else model
    group = Group(RankEnv(), numerics.device)
    return kind(network, optimizer, scheduler, loss_weights=(1.0, 1.0), numerics=numerics, group=group)


def original_step(backbone: str, shape: Shape, device: torch.device) -> Callable[[], object]:
    """A step as the original makes it: float clips from the host, plain layout, figures fetched after each step."""
    torch.manual_seed(0)
    model = TspModel(backbone, HEADS).to(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=0.005, foreach=False)
    batch = random_batch(shape, torch.device("cpu"), torch.contiguous_format)

    def step() -> float:
        assert batch.gvf is not None
        clips, gvf, targets = batch.clips.to(device), batch.gvf.to(device), batch.targets.to(device)
        outputs: tuple[Tensor, ...] = model(clips, gvf)
        losses = [functional.cross_entropy(logits, targets[:, head]) for head, logits in enumerate(outputs)]
        loss = losses[0] + losses[1]
        for parameter in model.parameters():
            parameter.grad = None
        loss.backward()
        optimizer.step()
        accuracies = [
            (logits.argmax(1) == targets[:, head]).float().mean().item() for head, logits in enumerate(outputs)
        ]
        return sum(accuracies) + sum(part.item() for part in losses) + loss.item()

    return step
