"""Losses of one batch, head by head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

UNLABELLED = -1
"""Target of a clip that has no label for a head."""


def head_loss(logits_NK: Tensor, target_N: Tensor) -> Tensor:
    """Mean cross-entropy over the clips that are labelled for this head.

    Args: logits_NK, float (computed in float32); target_N, int64, -1 where unlabelled.
    Returns: a scalar in nats; an attached zero if no clip is labelled. Nothing waits for the device.
    Raises: ValueError if N differs.
    Source: TSP; the zero case is ours (the original gives NaN).
    """
    if logits_NK.shape[0] != target_N.shape[0]:
        raise ValueError(f"{logits_NK.shape[0]} rows of logits but {target_N.shape[0]} targets")
    summed = functional.cross_entropy(logits_NK.float(), target_N, ignore_index=UNLABELLED, reduction="sum")
    return summed / (target_N != UNLABELLED).sum().clamp(min=1)


def total_loss(losses: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum of the heads' losses, in the heads' order.

    Raises: ValueError if there are not as many weights as losses.
    """
    total = losses[0] * weights[0]
    for loss, weight in zip(losses[1:], weights[1:], strict=True):
        total = total + loss * weight
    return total
