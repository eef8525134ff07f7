"""Classifies GPU errors: out of memory, which would recur in another attempt, or a lost GPU, which would not.

Each library has its own wording, so errors are classified by their texts, and CUDA's own also by code and name. All
code that computes on a GPU runs inside ``gpu_errors`` or calls this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tsp.errors import GpuLostError, GpuMemoryError, TspError

OUT_OF_MEMORY = (
    r"out[ _]of[ _]memory",  # the allocator, the runtime, "Cuda failure 2 'out of memory'" of NCCL, CUDA_ERROR_...
    r"unable to find an engine to execute this computation",  # cuDNN, when no algorithm's workspace fits
    r"No valid execution plans built",  # the same, by cuDNN's newer interface
    r"CU[A-Z]+_(STATUS_)?([A-Z]+_)*ALLOC(ATION)?_FAILED",  # cuBLAS, cuDNN, cuFFT, cuRAND, cuSOLVER, cuSPARSE
    r"CUBLAS_STATUS_NOT_INITIALIZED when calling `?cublas(Lt)?Create",  # no memory left for its handle
    r"CU(DNN|SOLVER|SPARSE)_STATUS_NOT_INITIALIZED",  # the same
    r"Failed to CUDA (m|c)?alloc",  # NCCL's buffers
    r"cudaErrorMemoryAllocation",
    r"DefaultCPUAllocator: (can't allocate|not enough) memory",  # of ranks on the CPU
)
"""Messages of failed allocations, by library."""

LOST_CUDA = (
    (3, "cudaErrorInitializationError", "CUDA_ERROR_NOT_INITIALIZED", "initialization error"),
    (4, "cudaErrorCudartUnloading", "CUDA_ERROR_DEINITIALIZED", "driver shutting down"),
    (46, "cudaErrorDevicesUnavailable", "CUDA_ERROR_DEVICE_UNAVAILABLE",
     "CUDA-capable device(s) is/are busy or unavailable"),
    (53, "cudaErrorPriorLaunchFailure", "", "unspecified launch failure in prior launch"),
    (100, "cudaErrorNoDevice", "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    (127, "cudaErrorStartupFailure", "", "startup failure in cuda runtime"),
    (201, "cudaErrorDeviceUninitialized", "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
    (214, "cudaErrorECCUncorrectable", "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"),
    (216, "cudaErrorDeviceAlreadyInUse", "CUDA_ERROR_CONTEXT_ALREADY_IN_USE",
     "exclusive-thread device already in use by a different thread"),
    (220, "cudaErrorNvlinkUncorrectable", "CUDA_ERROR_NVLINK_UNCORRECTABLE",
     "uncorrectable NVLink error detected during the execution"),
    (226, "cudaErrorContained", "CUDA_ERROR_CONTAINED",
     "Invalid access of peer GPU memory over nvlink or a hardware error"),
    (304, "cudaErrorOperatingSystem", "CUDA_ERROR_OPERATING_SYSTEM",
     "OS call failed or operation not supported on this OS"),
    (700, "cudaErrorIllegalAddress", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
    (702, "cudaErrorLaunchTimeout", "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"),
    (709, "cudaErrorContextIsDestroyed", "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"),
    (714, "cudaErrorHardwareStackError", "CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error"),
    (715, "cudaErrorIllegalInstruction", "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"),
    (716, "cudaErrorMisalignedAddress", "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"),
    (717, "cudaErrorInvalidAddressSpace", "CUDA_ERROR_INVALID_ADDRESS_SPACE",
     "operation not supported on global/shared address space"),
    (718, "cudaErrorInvalidPc", "CUDA_ERROR_INVALID_PC", "invalid program counter"),
    (719, "cudaErrorLaunchFailure", "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"),
    (802, "cudaErrorSystemNotReady", "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"),
    (805, "cudaErrorMpsConnectionFailed", "CUDA_ERROR_MPS_CONNECTION_FAILED",
     "MPS client failed to connect to the MPS control daemon or the MPS server"),
    (806, "cudaErrorMpsRpcFailure", "CUDA_ERROR_MPS_RPC_FAILURE",
     "the remote procedural call between the MPS server and the MPS client failed"),
    (807, "cudaErrorMpsServerNotReady", "CUDA_ERROR_MPS_SERVER_NOT_READY",
     "MPS server is not ready to accept new MPS client requests"),
    (810, "cudaErrorMpsClientTerminated", "CUDA_ERROR_MPS_CLIENT_TERMINATED",
     "the MPS client has been terminated by the server"),
    (911, "cudaErrorExternalDevice", "CUDA_ERROR_EXTERNAL_DEVICE",
     "an async error has occured in external entity outside of CUDA"),
    (999, "cudaErrorUnknown", "CUDA_ERROR_UNKNOWN", "unknown error"),
)  # fmt: skip
"""CUDA's errors after which this process can no longer use the card, though another process or card may work: code,
name in the runtime, name in the driver ("" where it has none), text. Source: the runtime's cudaGetErrorString."""

LOST = (
    r"ECC error|ECC uncorrectable",
    r"NVLink error",
    r"(GPU|device) is lost|GPU_IS_LOST|fallen off the bus",
    r"GPU requires reset|RESET_REQUIRED",
    r"busy or unavailable",
    r"CU[A-Z]+_(STATUS_)?(EXECUTION_FAILED|EXEC_FAILED|LAUNCH_FAILURE|MAPPING_ERROR|INTERNAL_ERROR)",
)
"""Messages that mean the same elsewhere: in the driver's tools, NCCL, and the libraries on top of CUDA."""

_OUT_OF_MEMORY = re.compile("|".join(OUT_OF_MEMORY), re.IGNORECASE)
_LOST = re.compile(
    "|".join(
        [
            *LOST,
            *(rf"\b{name}\b" for _, *names, _ in LOST_CUDA for name in names if name),
            # Short texts count only in a line about CUDA: "CUDA error: ...", "Cuda failure 719 '...'", Triton's.
            *(rf"(?:cuda.*|\[CUDA\].*){re.escape(text)}" for *_, text in LOST_CUDA),
        ]
    ),
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library means that a device ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def is_lost_gpu(error: BaseException) -> bool:
    """Whether an error means that this process can no longer use the card."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    # torch.AcceleratorError carries CUDA's code.
    if getattr(error, "error_code", None) in {code for code, *_ in LOST_CUDA}:
        return True
    return _LOST.search(str(error)) is not None


@contextmanager
def gpu_errors(advice: str, *, device: torch.device | None = None) -> Iterator[None]:
    """Context whose GPU errors, wherever they surface, are GpuMemoryError or GpuLostError; others pass.

    Args: advice, what to do when memory runs out; device, None while it is not chosen.
    """
    try:
        yield
    except RuntimeError as error:
        meaning = explain(error, advice, device)
        if meaning is None:
            raise
        raise meaning from error


def explain(error: BaseException, advice: str, device: torch.device | None) -> TspError | None:
    """The error that a GPU error means, permanent or retryable; None for any other error.

    Args: as gpu_errors.
    """
    first_line = next(iter(str(error).splitlines()), "")[:200]
    where = "the GPU" if device is None or device.type != "cuda" else f"the GPU {device}"
    if "CPUAllocator" in first_line:
        where = "this machine"
    if is_out_of_memory(error):
        return GpuMemoryError(f"{where} ran out of memory: {advice} ({first_line})")
    if is_lost_gpu(error):
        return GpuLostError(
            f"{where} failed ({first_line}): another attempt may get another GPU; if it happens again, check the "
            "node's 'nvidia-smi -q' and its kernel log (Xid)"
        )
    return None
