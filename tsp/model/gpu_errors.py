"""What a GPU's errors mean: out of memory, which another attempt meets again, or a lost card, which it does not.

Each library says it in words of its own, so errors are told apart by their texts. Whoever computes on a GPU asks here.
"""

from __future__ import annotations

import re

import torch

from tsp.errors import GpuLostError

OUT_OF_MEMORY = (
    r"out of memory",  # the allocator, the runtime, "Cuda failure 2 'out of memory'" of NCCL
    r"unable to find an engine to execute this computation",  # cuDNN, whose every algorithm wanted a workspace
    r"CUDNN_STATUS_ALLOC_FAILED",
    r"CUBLAS_STATUS_ALLOC_FAILED",
    r"CUSOLVER_STATUS_ALLOC_FAILED",
    r"cudaErrorMemoryAllocation",
)
"""Texts of libraries whose allocation failed."""

LOST = (
    r"ECC error",
    r"NVLink error",
    r"unspecified launch failure",
    r"launch timed out and was terminated",
    r"hardware stack error",
    r"GPU is lost|fallen off the bus",
    r"busy or unavailable",
    r"an illegal memory access was encountered",
    r"CUDA error: unknown error",
    r"CUDNN_STATUS_EXECUTION_FAILED",
    r"CUBLAS_STATUS_EXECUTION_FAILED",
)
"""Texts after which this process can no longer use the card; another one, or another card, may."""

_OUT_OF_MEMORY = re.compile("|".join(OUT_OF_MEMORY), re.IGNORECASE)
_LOST = re.compile("|".join(LOST), re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a GPU's memory was not enough, whichever library says it."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def is_lost_gpu(error: BaseException) -> bool:
    """Whether an error means that the card, or this process's hold on it, is gone."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    return _LOST.search(str(error)) is not None


def lost_gpu(error: BaseException, device: torch.device) -> GpuLostError:
    """The error to end with, worth another attempt."""
    return GpuLostError(
        f"the GPU {device} failed ({str(error).splitlines()[0][:200]}): another attempt may get another card; if it "
        f"happens again, look at the node's 'nvidia-smi -q' and its kernel log (Xid)"
    )
