"""The properties of a GPU that plans and ranks depend on, and the number format that all GPUs of a run support. No
I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tsp.config.run import Precision
from tsp.errors import ConfigError

NEEDS_GPU = "TSP_NEEDS_GPU"
"""Variable that the chart sets in pods that hold a GPU: they must never fall back to the CPU."""
BF16_FROM = (8, 0)
"""Compute capability of the first GPUs that multiply bf16 (Ampere)."""
FP16_FROM = (7, 0)
"""The same of the first with fp16 matrix units (Volta); on older ones fp16 is no faster than fp32, or much slower."""
CUDA_DRIVERS = ((13, 580), (12, 525), (11, 450))
"""Major version of CUDA -> oldest driver branch that runs programs built with it.

Source: NVIDIA's CUDA compatibility guide, minor version compatibility.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A GPU."""

    name: str
    memory_mib: int
    compute: tuple[int, int] | None = None
    """Compute capability, major and minor; None where it is unknown."""

    def __str__(self) -> str:
        if self.compute is None:
            return self.name
        return f"{self.name} (compute capability {self.compute[0]}.{self.compute[1]})"


def precision_for(asked: Precision, cards: Sequence[Card]) -> Precision:
    """The one number format of a run: all ranks must share it, since their gradients are averaged.

    Args: asked, of the configuration; cards, of all ranks, empty where they compute on CPUs.
    Returns: for ``auto`` the best format of the weakest GPU: bf16, else fp16, else fp32; fp32 on CPUs.
    Raises: ConfigError naming the GPU that does not support the requested format.
    """
    if not cards:
        if asked == "fp16":
            raise ConfigError("--precision fp16 needs a GPU: use fp32 or bf16 on the CPU")
        return "fp32" if asked == "auto" else asked
    weakest = _weakest(cards)
    if weakest is None:
        return "fp32" if asked == "auto" else asked
    compute, _ = weakest
    if asked == "bf16" and compute < BF16_FROM:
        raise ConfigError(
            f"--precision bf16: the {weakest[1]} does not support bf16; use --precision auto, fp16 or fp32"
        )
    if asked != "auto":
        return asked
    return "bf16" if compute >= BF16_FROM else "fp16" if compute >= FP16_FROM else "fp32"


def explain_precision(asked: Precision, cards: Sequence[Card]) -> str:
    """One line on the number format and the card that decided it.

    Raises: as precision_for.
    """
    chosen, weakest = precision_for(asked, cards), _weakest(cards)
    if asked != "auto" or weakest is None:
        return f"number format {chosen}"
    return f"number format {chosen}: the weakest GPU is the {weakest[1]}"


def _weakest(cards: Sequence[Card]) -> tuple[tuple[int, int], Card] | None:
    """The least compute capability and its GPU; None if no GPU's is known."""
    known = [(card.compute, card) for card in cards if card.compute is not None]
    return min(known, key=lambda item: item[0], default=None)


def driver_for(cuda_version: str) -> int | None:
    """The oldest driver branch that runs programs built with that CUDA version ("13.2"); None if it is unknown."""
    match = re.match(r"\d+", cuda_version)
    return dict(CUDA_DRIVERS).get(int(match[0])) if match else None


def has_kernels(compute: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a build of torch runs on a card.

    Args: built_for, as ``torch.cuda.get_arch_list()`` has it: sm_75 (machine code, for that major version from that
    minor on) or compute_90 (compiled when loaded, for any later card).
    """
    for architecture in built_for:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", architecture)
        if match is None:
            continue
        kind, have = match[1], (int(match[2]), int(match[3]))
        if (kind == "sm" and have[0] == compute[0] and have[1] <= compute[1]) or (
            kind == "compute" and have <= compute
        ):
            return True
    return False
