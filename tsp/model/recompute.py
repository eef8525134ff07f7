"""Activation checkpointing: blocks discard their activations and compute them again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute_blocks(features: nn.Module) -> None:
    """Let every block of layer1 to layer4 keep only its input; the stem is left as it is.

    The results are bit-identical: batch-norm statistics are updated only in the first pass.
    """
    for name in ("layer1", "layer2", "layer3", "layer4"):
        layer = features.get_submodule(name)
        blocks = list(layer.children())
        is_single = any(isinstance(block, nn.Conv3d) for block in blocks)
        for block in [layer] if is_single else blocks:
            # Replacing forward, not the module, keeps the state-dict names.
            block.forward = partial(_run, block, block.forward)


def _run(block: nn.Module, forward: Any, *inputs: torch.Tensor) -> torch.Tensor:
    if not (block.training and torch.is_grad_enabled()):
        result: torch.Tensor = forward(*inputs)
        return result
    output: torch.Tensor = checkpoint(
        forward, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, block)
    )
    return output


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and of the second forward pass."""
    return nullcontext(), _statistics_at_rest(block)


@contextmanager
def _statistics_at_rest(block: nn.Module) -> Iterator[None]:
    """Let batch norms do all that they did in the first pass, but with a momentum of 0 and without counting."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches
