"""The batch that data workers pass to the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """Why a clip could not be decoded."""

    filename: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatch:
    """B clips of T frames; ``tsp.data.transforms.pixels_on_device`` turns it into the encoder's input.

    A clip that could not be decoded keeps its row, so shapes never change: it repeats another clip's pixels and its
    targets are -1.
    """

    pixels: Tensor
    """uint8 [B, T, S, S, 4], bytes R, G, B and one unused. S is twice the crop: the four source pixels of each
    output pixel; or the crop itself where the frames were stored resized."""
    row_weights: Tensor | None
    """float32 [B, crop], or None where the frames were stored resized."""
    column_weights: Tensor | None
    """float32 [B, crop], or None."""
    targets: Tensor
    """int64 [B, heads]; -1 where unlabelled."""
    gvf: Tensor | None
    """float32 [B, 512] or None."""
    items: Tensor
    """int64 [B]: numbers within the epoch; -1 for a clip that could not be decoded."""
    names: tuple[str, ...]
    """File, time and table row of each clip, for messages."""
    num_bad: int
    """Clips that could not be decoded, replaced ones included."""
    problems: tuple[Problem, ...] = ()
    """The problems of clips that could not be decoded."""

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: torch.device | str) -> ClipBatch:
        """The same batch with all tensors on the device; the copies may go on after this returns."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> ClipBatch:
        """The same batch in page-locked memory, from which copies to a GPU overlap with computing."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> ClipBatch:
        tensors = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        changed: dict[str, Any] = {
            name: function(value) for name, value in tensors.items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **changed)
