"""Device and number format of the computation, the same for all ranks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from tsp.config.cards import Card, precision_for
from tsp.config.run import ModelConfig
from tsp.errors import ConfigError
from tsp.model.device import use_exact_fp32

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Numerics:
    """How a model is computed on a device."""

    device: torch.device
    precision: str
    """fp32, bf16 or fp16."""

    @property
    def dtype(self) -> torch.dtype:
        """Number format of convolutions and matrix products."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    def prepare(self, model: nn.Module) -> None:
        """Move a model to the device, its weights in channels-last order, which convolutions are fastest with."""
        model.to(self.device)
        model.to(memory_format=torch.channels_last_3d)

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which a forward pass uses that format."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.precision != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")


def choose_numerics(device: torch.device, config: ModelConfig, cards: Sequence[Card]) -> Numerics:
    """The number format of a run and torch's settings for it: fp32 means fp32 (no TF32), cuDNN tries its algorithms.

    Args: cards, of all ranks, since they must share the format; empty on CPUs.
    Raises: ConfigError for what a device cannot do.
    """
    if device.type == "cpu" and config.sync_batch_norm:
        raise ConfigError("sync_batch_norm needs GPUs: set model.sync_batch_norm=false on the CPU")
    precision = precision_for(config.precision, cards)
    if device.type == "cpu" and precision == "bf16":
        logger.warning(
            "bf16 on a CPU is experimental: oneDNN gave gradients that were not finite in 11 of 120 steps on CPUs "
            "with avx512_bf16; such a step ends the run"
        )
    use_exact_fp32()
    torch.backends.cudnn.benchmark = True
    return Numerics(device=device, precision=precision)
