"""Memory of a training step: a fixed part and a part per clip, and the batch that fits each GPU.

On a GPU two batches are measured. Without one, the same two are computed: the step runs over tensors that have shapes
but no values, and the storages that are alive at each moment are added up.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.step_variants import Shape, Variant, make_model, make_step, random_batch, stepper_of
from tsp.model.heads import TspModel
from tsp.train.step import Stepper

MIB = 2**20
CARDS_GIB = (8, 16, 24, 32, 80)
BATCHES = (8, 32)
SMALL_BATCHES = (2, 6)
"""For cards that do not hold the others."""
RESERVED_SHARE = 0.08
"""Of a card's memory: CUDA's own context, what the allocator cannot use."""
WORKSPACE_MIB = 512
"""Assumed for cuDNN's workspaces where they cannot be measured."""
GRAIN_BYTES = 512
"""CUDA's allocator rounds up to these."""


@dataclass(frozen=True)
class Cost:
    """Memory of a step as a line through two batches."""

    fixed_mib: float
    per_clip_mib: float
    kept_mib: float
    """A clip's activations between the forward and the backward pass."""

    def of_batch(self, batch: int) -> float:
        """MiB at the peak of a step."""
        return self.fixed_mib + batch * self.per_clip_mib

    def largest_batch(self, card_gib: int) -> int:
        """Clips that fit a card."""
        usable_mib = card_gib * 1024 * (1 - RESERVED_SHARE)
        return max(0, int((usable_mib - self.fixed_mib) // self.per_clip_mib))


Probe = Callable[[int], tuple[int, int]]
"""Batch -> bytes at the peak of a step, bytes kept between its two passes."""


def cost_of(probe: Probe, batches: tuple[int, int] = BATCHES, extra_mib: float = 0.0) -> Cost:
    """The line through two probes."""
    (small, small_kept), (large, large_kept) = (probe(batch) for batch in batches)
    clips = (batches[1] - batches[0]) * MIB
    per_clip_mib = (large - small) / clips
    return Cost(small / MIB - batches[0] * per_clip_mib + extra_mib, per_clip_mib, (large_kept - small_kept) / clips)


def memory_table(backbone: str, variants: Sequence[Variant], device: torch.device) -> list[str]:
    """Markdown: what a clip costs in each variant, and the largest batch that fits a card."""
    how = f"measured on {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "computed, not measured"
    cards = " | ".join(f"{size} GB" for size in CARDS_GIB)
    lines = [f"### {backbone}: memory, and the largest batch that fits ({how})", ""]
    lines.append(f"| variant | kept, MiB a clip | at the peak, MiB a clip | fixed MiB | batch 32, MiB | {cards} |")
    lines.append("|---|---|---|---|---|" + "---|" * len(CARDS_GIB))
    for variant in variants:
        if variant.compile:
            continue  # what is fused away is not known before
        cost = measured(backbone, variant, device) if device.type == "cuda" else computed(backbone, variant)
        kept = f"{cost.kept_mib:.0f}" if cost.kept_mib else ""
        fits = " | ".join(str(cost.largest_batch(size)) for size in CARDS_GIB)
        figures = f"{cost.per_clip_mib:.0f} | {cost.fixed_mib:.0f} | {cost.of_batch(32):.0f}"
        lines.append(f"| {variant.name} | {kept} | {figures} | {fits} |")
    return [*lines, ""]


def measured(backbone: str, variant: Variant, device: torch.device) -> Cost:
    """On a GPU: the caching allocator's peak in a step after the first ones, which try out algorithms."""

    def probe(batch: int) -> tuple[int, int]:
        gc.collect()
        torch.cuda.empty_cache()
        step = make_step(backbone, Shape(batch, 16, 112), variant, device)
        for _ in range(2):
            step()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device), 0

    try:
        return cost_of(probe)
    except torch.OutOfMemoryError:
        return cost_of(probe, SMALL_BATCHES)


def computed(backbone: str, variant: Variant, frames: int = 16, side_px: int = 112) -> Cost:
    """Without a GPU: nothing is calculated but shapes."""
    model, numerics = make_model(backbone, variant, torch.device("cpu"))
    mode = without_values(model)

    def probe(batch: int) -> tuple[int, int]:
        with mode:
            stepper = stepper_of(model, batch, variant, numerics, WatchedStepper)
            clips = random_batch(Shape(batch, frames, side_px), numerics.device, torch.channels_last_3d)
        with mode:
            return live_bytes_of(stepper, clips)

    return cost_of(probe, extra_mib=WORKSPACE_MIB)


def without_values(model: TspModel) -> FakeTensorMode:
    """Replace a model's tensors by ones that have shapes alone; they live in the mode that is returned."""
    mode = FakeTensorMode()
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            shapes: dict[str, Any] = {
                name: mode.from_tensor(value) for name, value in tensors.items() if value is not None
            }
            tensors.update(shapes)
    return mode


class WatchedStepper(Stepper):
    """Notes what lives between the two passes of a step, and leaves its reports unread."""

    live: LiveBytes | None = None
    kept_bytes = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        """A step."""
        self._delay = 1_000
        return super().__call__(*args, **options)

    def _forward(self, batch: Any) -> tuple[list[Tensor], Tensor, Tensor]:
        before = self.live.now if self.live else 0
        result = super()._forward(batch)
        self.kept_bytes = self.live.now - before if self.live else 0
        return result


def live_bytes_of(stepper: WatchedStepper, batch: Any) -> tuple[int, int]:
    """Bytes at the peak of a step, weights, momentum and clips included; bytes kept between its two passes."""
    there_before = [batch.clips, batch.gvf, batch.targets, *stepper.model.parameters(), *stepper.model.buffers()]
    there_before += [value for state in stepper.optimizer.state.values() for value in state.values()]
    for parameter in stepper.model.parameters():
        parameter.grad = None
    with LiveBytes(there_before) as live:
        stepper.live = live
        stepper(0, batch, stop=False)
    stepper.live = None
    return live.peak, stepper.kept_bytes


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that live while operations are made, each once, rounded up as CUDA's allocator does."""

    def __init__(self, there_before: Sequence[Any] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()
        self._note(there_before)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make the operation and note what it made."""
        result = function(*args, **(kwargs or {}))
        self._note(result)
        return result

    def _note(self, values: Any) -> None:
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    size = -(-storage.nbytes() // GRAIN_BYTES) * GRAIN_BYTES
                    self.now += size
                    weakref.finalize(storage, self._forget, storage._cdata, size)
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
