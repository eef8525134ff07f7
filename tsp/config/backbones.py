"""Published initial weights of the encoders, by address and digest."""

from __future__ import annotations

from dataclasses import dataclass

from tsp.config.run import Backbone
from tsp.errors import ConfigError

_SHORT_BACKBONES = {"r2plus1d-34": "r34", "r2plus1d-18": "r18", "r3d-18": "r3d", "tiny": "tiny"}


PARAMETERS: dict[Backbone, int] = {
    "r2plus1d_34": 63_500_000,
    "r2plus1d_18": 31_300_000,
    "r3d_18": 33_200_000,
    "tiny": 100_000,
}
"""Rounded; a checkpoint holds each one and its momentum as 4 bytes."""


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights that anybody can download."""

    url: str
    sha256_prefix: str
    """First eight digits of the file's SHA-256; by PyTorch's custom the end of its name."""
    trained_on: str


_IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0"
_TORCHVISION = "https://download.pytorch.org/models"

PUBLISHED_WEIGHTS = {
    # The clips-of-8 variant is the one that the published TSP code starts from.
    "r2plus1d_34": PublishedWeights(
        f"{_IG65M}/r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth", "0aa0550b", "IG-65M, then Kinetics-400"
    ),
    "r2plus1d_18": PublishedWeights(f"{_TORCHVISION}/r2plus1d_18-91a641e6.pth", "91a641e6", "Kinetics-400"),
    "r3d_18": PublishedWeights(f"{_TORCHVISION}/r3d_18-b3b3357e.pth", "b3b3357e", "Kinetics-400"),
}
"""Backbone -> what ``--pretrained default`` stands for."""


def published_weights(backbone: str) -> PublishedWeights:
    """The published weights of a backbone.

    Raises: ConfigError if it has none, as the tiny one of the demo.
    """
    if backbone not in PUBLISHED_WEIGHTS:
        raise ConfigError(
            f"there are no published weights for the backbone {backbone}: use --pretrained none, or a file or "
            f"s3:// address of your own"
        )
    return PUBLISHED_WEIGHTS[backbone]
