"""The encoders: one row each, with everything known about it without building it.

To add one: its name in ``Backbone`` and a row here, its builder in ``tsp.model.backbone``, and its name in
the chart's schema (``backbone``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from tsp.errors import ConfigError

Backbone = Literal["r2plus1d_34", "r2plus1d_18", "r3d_18", "tiny"]
DEFAULT_BACKBONE: Backbone = "r2plus1d_34"

_BYTES_PER_PARAMETER = 8
"""A checkpoint holds each one and its momentum as 4 bytes."""


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights that are published for download."""

    url: str
    sha256_prefix: str
    """First eight digits of the file's SHA-256; by PyTorch's custom the end of its name."""

    @property
    def file(self) -> str:
        """Its name, also in a mirror."""
        return self.url.rpartition("/")[2]

    def address(self, mirror: str | None) -> str:
        """Where to download it: from a mirror (a folder, s3:// or https://), else from its publisher."""
        return self.url if mirror is None else f"{mirror.rstrip('/')}/{self.file}"


@dataclass(frozen=True, slots=True)
class StepMemory:
    """GPU memory of a bf16 training step on clips of the recipe, computed: see ``benchmarks/memory.md``."""

    per_clip_mib: int
    """What each clip adds at the peak."""
    fixed_mib: int
    """Regardless of the batch: weights, gradients, momentum, workspaces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneRow:
    """Facts about an encoder."""

    parameters: int
    """Without a classifier."""
    short_name: str
    """Used in run names that would otherwise be too long."""
    step_gflop_per_clip: float
    """Forward and backward of a 16x112x112 clip, the frozen stem's gradients left out; counted from the layers'
    shapes."""
    published: PublishedWeights | None
    """Weights for ``--pretrained default``; None: nothing is published."""
    step_memory: StepMemory | None
    """None where it never matters."""
    is_factorised: bool
    """Whether it has convolutions that ``model.conv2d`` computes as 2-D ones."""

    @property
    def checkpoint_bytes(self) -> int:
        """Approximate size of a checkpoint with its optimizer state."""
        return self.parameters * _BYTES_PER_PARAMETER


_IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0"
_TORCHVISION = "https://download.pytorch.org/models"

BACKBONES: dict[Backbone, BackboneRow] = {
    "r2plus1d_34": BackboneRow(
        parameters=63_491_975,
        short_name="r34",
        step_gflop_per_clip=446.0,
        # IG-65M, then Kinetics-400. The clips-of-8 variant is the one that the published TSP code starts from.
        published=PublishedWeights(f"{_IG65M}/r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth", "0aa0550b"),
        step_memory=StepMemory(per_clip_mib=366, fixed_mib=1188),
        is_factorised=True,
    ),
    "r2plus1d_18": BackboneRow(
        parameters=31_300_125,
        short_name="r18",
        step_gflop_per_clip=232.0,
        published=PublishedWeights(f"{_TORCHVISION}/r2plus1d_18-91a641e6.pth", "91a641e6"),
        step_memory=StepMemory(per_clip_mib=225, fixed_mib=853),
        is_factorised=True,
    ),
    "r3d_18": BackboneRow(
        parameters=33_166_272,
        short_name="r3d",
        step_gflop_per_clip=227.0,
        published=PublishedWeights(f"{_TORCHVISION}/r3d_18-b3b3357e.pth", "b3b3357e"),
        step_memory=StepMemory(per_clip_mib=76, fixed_mib=890),
        is_factorised=False,
    ),
    "tiny": BackboneRow(
        parameters=366_576,
        short_name="tiny",
        step_gflop_per_clip=0.2,
        published=None,
        step_memory=None,
        is_factorised=False,
    ),
}
"""Name -> row, for every name of ``Backbone``."""


def published_weights(backbone: str) -> PublishedWeights:
    """The published weights of a backbone.

    Raises: ConfigError if it has none, as the tiny one of the demo.
    """
    row = BACKBONES.get(cast("Backbone", backbone))
    if row is None or row.published is None:
        raise ConfigError(
            f"there are no published weights for the backbone {backbone}: use --pretrained none, or a file or "
            f"s3:// address of your own"
        )
    return row.published
