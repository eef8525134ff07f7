"""Encoder plus classification heads: the model that TSP and TAC train.

State-dict names: the encoder under ``features.``; one head ``fc``; two heads ``fc1`` and ``fc2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsp.errors import ConfigError
from tsp.model.backbone import FEATURE_SIZE, build_backbone

GVF_SIZE = 512
"""Length of a global video feature."""

HEAD_STD = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec:
    """One classification head, as the model needs it."""

    label_column: str
    num_classes: int
    sees_gvf: bool = False
    """Whether its input contains the global video feature in addition to the clip feature."""

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ConfigError(f"the head {self.label_column} needs at least 2 classes, got {self.num_classes}")


class TspModel(nn.Module):
    """Clips (and global video features) in, logits of each head out."""

    def __init__(self, backbone: str, heads: Sequence[HeadSpec]) -> None:
        super().__init__()
        if not 1 <= len(heads) <= 2:
            raise ConfigError(f"a model has one or two heads, got {len(heads)}")
        self.heads = tuple(heads)
        self.features = build_backbone(backbone)
        self.head_names = ("fc",) if len(heads) == 1 else ("fc1", "fc2")
        for name, head in zip(self.head_names, heads, strict=True):
            self.add_module(name, _linear(FEATURE_SIZE + GVF_SIZE * head.sees_gvf, head.num_classes))

    @property
    def needs_gvf(self) -> bool:
        """Whether any head sees the global video feature."""
        return any(head.sees_gvf for head in self.heads)

    def head_modules(self) -> list[nn.Module]:
        """The heads in their order."""
        return [self.get_submodule(name) for name in self.head_names]

    def forward(self, clips_BCTHW: Tensor, gvf_BG: Tensor | None = None) -> tuple[Tensor, ...]:
        """Logits [B, classes] of each head.

        Args: clips_BCTHW, float, normalised; gvf_BG, float [B, 512], needed only if a head sees it.
        Raises: ConfigError if a head needs a global video feature and none is given.
        """
        feature_BF = self.features(clips_BCTHW)
        if not self.needs_gvf:
            return tuple(module(feature_BF) for module in self.head_modules())
        if gvf_BG is None:
            raise ConfigError("a head sees the global video feature, but the batch contains none: check data.*.gvf")
        both_BF = torch.cat([feature_BF, gvf_BG.to(feature_BF.dtype)], dim=1)
        return tuple(
            module(both_BF if head.sees_gvf else feature_BF)
            for module, head in zip(self.head_modules(), self.heads, strict=True)
        )


def _linear(in_features: int, num_classes: int) -> nn.Linear:
    layer = nn.Linear(in_features, num_classes)
    nn.init.normal_(layer.weight, std=HEAD_STD)
    nn.init.zeros_(layer.bias)
    return layer
