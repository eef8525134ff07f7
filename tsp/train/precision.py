"""Devices and number formats: what the hardware offers and what was asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from tsp.config.run import ModelConfig
from tsp.errors import ConfigError


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


def choose_device(local_rank: int) -> torch.device:
    """This rank's GPU, or the CPU where there is none.

    Raises: ConfigError if there are GPUs but not this one.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ConfigError(f"LOCAL_RANK is {local_rank}, but this machine has {count} GPUs: ask for fewer --gpus")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def gpu_memory_of(device: torch.device) -> int | None:
    """MiB of the GPU's memory, None on the CPU."""
    return torch.cuda.get_device_properties(device).total_memory >> 20 if device.type == "cuda" else None


def choose_numerics(device: torch.device, config: ModelConfig) -> Numerics:
    """The number format: ``auto`` is bf16 on GPUs that have it, fp16 on others, fp32 on the CPU.

    Also sets torch up: fp32 means fp32 (no TF32), and cuDNN tries its algorithms out.
    Raises: ConfigError for what the device cannot do.
    """
    precision: str = config.precision
    if precision == "auto":
        precision = "fp32"
        if device.type == "cuda":
            precision = "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu" and precision == "fp16":
        raise ConfigError("--precision fp16 needs a GPU: use fp32 or bf16 on the CPU")
    if device.type == "cpu" and config.sync_batch_norm:
        raise ConfigError("sync_batch_norm needs GPUs: set model.sync_batch_norm=false on the CPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return Numerics(device=device, precision=precision)
