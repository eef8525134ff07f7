"""The device that a program computes on: its GPU, or the CPU where none was requested."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from tsp.config.cards import NEEDS_GPU, Card, driver_for, has_kernels
from tsp.errors import ConfigError

_DRIVER_FILE = Path("/proc/driver/nvidia/version")


def choose_device(local_rank: int, env: Mapping[str, str] = os.environ) -> torch.device:
    """This process's GPU, or the CPU where there is none and none was requested.

    Args: local_rank, its number on this machine.
    Raises: ConfigError if there are GPUs but not this one, if its kernels are not in this build of torch, or if a GPU
        was requested and cannot be used.
    """
    if not torch.cuda.is_available():
        if env.get(NEEDS_GPU):
            raise ConfigError(_why_no_gpu())
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ConfigError(f"LOCAL_RANK is {local_rank}, but this machine has {count} GPUs: use a smaller --gpus")
    device = torch.device("cuda", local_rank)
    card = card_of(device)
    if card is not None and card.compute is not None and not has_kernels(card.compute, torch.cuda.get_arch_list()):
        raise ConfigError(
            f"this image's torch {torch.__version__} has no kernels for the {card}, only for "
            f"{', '.join(torch.cuda.get_arch_list())}: use an image built for older GPUs (image/README.md, CUDA "
            "12.6)"
        )
    torch.cuda.set_device(device)
    return device


def device_of_shard(shard: int | None) -> torch.device:
    """Where a shard of a job computes: shards of one machine take its GPUs in turn.

    Raises: ConfigError as ``choose_device``.
    """
    return choose_device((shard or 0) % max(torch.cuda.device_count(), 1))


def use_exact_fp32() -> None:
    """Make fp32 mean fp32: from Ampere on, torch may otherwise multiply with the 10 bits of TF32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def card_of(device: torch.device) -> Card | None:
    """The card of a device; None for the CPU."""
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return Card(name=found.name, memory_mib=found.total_memory >> 20, compute=(found.major, found.minor))


def _why_no_gpu() -> str:
    """Why a requested GPU cannot be used, and what to do."""
    built_with = torch.version.cuda
    if built_with is None:
        return f"this pod requested a GPU, but its torch {torch.__version__} is built for CPUs: use another image"
    needed, found = driver_for(built_with), driver_version()
    wants = f"CUDA {built_with}" + (f", which needs driver {needed} or newer" if needed else "")
    if found is None:
        return (
            f"this pod requested a GPU, but no NVIDIA driver is visible in it (torch {torch.__version__} is built "
            f"with {wants}): is the container runtime NVIDIA's? set runtimeClassName (often nvidia), and run "
            "'nvidia-smi' in the pod"
        )
    if needed is not None and int(found.split(".")[0]) < needed:
        return (
            f"this pod requested a GPU, but the node's driver {found} is too old: torch {torch.__version__} is "
            f"built with {wants}; use newer nodes, or an image built with an older CUDA (image/README.md)"
        )
    return (
        f"this pod requested a GPU and has driver {found}, but CUDA finds no device (torch {torch.__version__} is "
        f"built with {wants}): check 'nvidia-smi' in the pod, CUDA_VISIBLE_DEVICES, and runtimeClassName"
    )


def driver_version(path: Path = _DRIVER_FILE) -> str | None:
    """Version of the NVIDIA kernel driver ("580.82.07"); None where there is none."""
    try:
        match = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", path.read_text())
    except OSError:
        return None
    return match[1] if match else None
