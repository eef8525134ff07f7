"""Errors of a GPU by their texts, as the libraries write them."""

import pytest
import torch

from tsp.errors import GpuLostError, exit_code_of
from tsp.model.gpu_errors import is_lost_gpu, is_out_of_memory, lost_gpu

OUT_OF_MEMORY = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.43 GiB of which 1.1 GiB is free.",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "FIND was unable to find an engine to execute this computation after trying 12 plans.",
    "GET was unable to find an engine to execute this computation",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuFFT error: CUFFT_ALLOC_FAILED",
    "cusparse error: CUSPARSE_STATUS_ALLOC_FAILED",
    "CURAND_STATUS_ALLOCATION_FAILED",
    "cuInit failed: CUDA_ERROR_OUT_OF_MEMORY",
    "Triton Error [CUDA]: out of memory",
    "CUDA driver error: out of memory",
    "NCCL error in: NCCLUtils.hpp:312, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
]
LOST = [
    "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: unspecified launch failure",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: the launch timed out and was terminated",
    "CUDA error: all CUDA-capable devices are busy or unavailable",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: uncorrectable NVLink error detected during the execution",
    "CUDA error: hardware stack error",
    "CUDA error: an illegal instruction was encountered",
    "CUDA error: misaligned address",
    "Triton Error [CUDA]: CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA driver error: CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA error: system not yet initialized",
    "CUDA error: unknown error",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "NCCL error: unhandled cuda error. Last error: Cuda failure 214 'uncorrectable ECC error encountered'",
]
NEITHER = [
    "CUDA error: device-side assert triggered",
    "shape mismatch",
    "out of resource: shared memory, Required: 262144, Hardware limit: 232448",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`",
    "NCCL communicator was aborted on rank 1.",
    "Expected all tensors to be on the same device",
    "CUDA error: no kernel image is available for execution on the device",
]


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_a_lack_of_memory_is_known_whichever_library_says_it(text):
    assert (is_out_of_memory(RuntimeError(text)), is_lost_gpu(RuntimeError(text))) == (True, False)


@pytest.mark.parametrize("text", LOST)
def test_a_lost_card_is_known_and_worth_another_attempt(text):
    error = torch.AcceleratorError(text) if "CUDA error" in text else RuntimeError(text)
    assert (is_out_of_memory(error), is_lost_gpu(error)) == (False, True)
    lost = lost_gpu(error, torch.device("cuda", 0))
    assert isinstance(lost, GpuLostError)
    assert exit_code_of(lost) >= 128
    assert text.splitlines()[0] in str(lost)


@pytest.mark.parametrize("text", NEITHER)
def test_other_errors_are_neither(text):
    assert (is_out_of_memory(RuntimeError(text)), is_lost_gpu(RuntimeError(text))) == (False, False)


def test_torchs_own_error_needs_no_text():
    assert is_out_of_memory(torch.OutOfMemoryError("whatever"))
    assert not is_out_of_memory(MemoryError("out of memory"))
