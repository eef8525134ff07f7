"""Classifies GPU errors: out of memory, which would recur in another attempt, or a lost card, which would not.

Each library has its own wording, so errors are told apart by their texts. All code that computes on a GPU uses this.
"""

from __future__ import annotations

import re

import torch

from tsp.errors import GpuLostError

OUT_OF_MEMORY = (
    r"out[ _]of[ _]memory",  # the allocator, the runtime, "Cuda failure 2 'out of memory'" of NCCL, CUDA_ERROR_...
    r"unable to find an engine to execute this computation",  # cuDNN, when no algorithm's workspace fits
    r"CU[A-Z]+_(STATUS_)?([A-Z]+_)*ALLOC(ATION)?_FAILED",  # cuBLAS, cuDNN, cuFFT, cuRAND, cuSOLVER, cuSPARSE
    r"CUBLAS_STATUS_NOT_INITIALIZED when calling `?cublasCreate",  # no memory left for its handle
    r"cudaErrorMemoryAllocation",
)
"""Messages of failed allocations, by library."""

LOST = (
    r"ECC error",
    r"NVLink error",
    r"unspecified launch failure",
    r"launch timed out and was terminated",
    r"hardware stack error",
    r"GPU is lost|fallen off the bus",
    r"busy or unavailable",
    r"an illegal (memory access|instruction) was encountered|misaligned address",
    r"CUDA_ERROR_(ILLEGAL_ADDRESS|LAUNCH_FAILED|LAUNCH_TIMEOUT|ECC_UNCORRECTABLE|HARDWARE_STACK_ERROR|UNKNOWN)",
    r"GPU requires reset|system not yet initialized",
    r"CUDA error: unknown error",
    r"CUDNN_STATUS_EXECUTION_FAILED",
    r"CUBLAS_STATUS_EXECUTION_FAILED",
)
"""Messages after which this process can no longer use the card, though another process or card may work."""

_OUT_OF_MEMORY = re.compile("|".join(OUT_OF_MEMORY), re.IGNORECASE)
_LOST = re.compile("|".join(LOST), re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library means that a GPU ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def is_lost_gpu(error: BaseException) -> bool:
    """Whether an error means that this process can no longer use the card."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    return _LOST.search(str(error)) is not None


def lost_gpu(error: BaseException, device: torch.device) -> GpuLostError:
    """The error to end with, worth another attempt."""
    return GpuLostError(
        f"the GPU {device} failed ({str(error).splitlines()[0][:200]}): another attempt may get another card; if it "
        f"happens again, look at the node's 'nvidia-smi -q' and its kernel log (Xid)"
    )
