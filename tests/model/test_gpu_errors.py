"""Errors of a GPU by their texts, as the libraries write them."""

import ctypes
import importlib.util
from pathlib import Path

import pytest
import torch

from tsp.errors import GpuLostError, GpuMemoryError, exit_code_of
from tsp.model.gpu_errors import LOST_CUDA, gpu_errors, is_lost_gpu, is_out_of_memory

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
    "NCCL error: unhandled cuda error, NCCL version 2.27.5\nLast error:\nFailed to CUDA calloc async 16777216 bytes",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasLtCreate(&handle)`",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "cuDNN Frontend error: [cudnn_frontend] Error: No valid execution plans built.",
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
]
LOST = [
    "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: unspecified launch failure",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: the launch timed out and was terminated",
    "CUDA error: all CUDA-capable devices are busy or unavailable",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: device is lost",
    "NVML_ERROR_GPU_IS_LOST",
    "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
    "Triton Error [CUDA]: CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA driver error: CUDA_ERROR_ECC_UNCORRECTABLE",
    "Triton Error [CUDA]: misaligned address",
    "CUDA unknown error - this may be due to an incorrectly set up environment",
    "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER",
    "cuDNN error: CUDNN_STATUS_MAPPING_ERROR",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasSgemm`",
    "cuFFT error: CUFFT_EXEC_FAILED",
    "CURAND_STATUS_LAUNCH_FAILURE",
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
    "CUDA error: invalid argument",
    "CUDA error: operation not permitted when stream is capturing",
    "CUDA driver version is insufficient for CUDA runtime version",
    "an unknown error occurred in the table",
    "the context is destroyed",
]


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_a_lack_of_memory_is_known_whichever_library_says_it(text):
    assert (is_out_of_memory(RuntimeError(text)), is_lost_gpu(RuntimeError(text))) == (True, False)


@pytest.mark.parametrize("text", LOST)
def test_a_lost_card_is_known_and_worth_another_attempt(text):
    error = torch.AcceleratorError(text) if "CUDA error" in text else RuntimeError(text)
    assert (is_out_of_memory(error), is_lost_gpu(error)) == (False, True)
    with pytest.raises(GpuLostError) as lost, gpu_errors("", device=torch.device("cuda", 0)):
        raise error
    assert exit_code_of(lost.value) >= 128
    assert text.splitlines()[0] in str(lost.value)


RUNTIME = "nvidia/cu13/lib/libcudart.so.13"


@pytest.fixture(scope="module")
def runtime():
    """CUDA's own runtime, which names its errors without a card."""
    found = importlib.util.find_spec("nvidia")
    paths = [Path(folder).parent / RUNTIME for folder in (found.submodule_search_locations if found else [])]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        pytest.skip("this torch was installed without CUDA 13's runtime")
    library = ctypes.CDLL(str(path))
    for function in (library.cudaGetErrorName, library.cudaGetErrorString):
        function.restype = ctypes.c_char_p
    return library


def test_lost_cards_are_named_as_cudas_own_runtime_names_them(runtime):
    for code, name, _, text in LOST_CUDA:
        assert runtime.cudaGetErrorName(code).decode() == name
        assert runtime.cudaGetErrorString(code).decode() == text


@pytest.mark.parametrize(("code", "name", "of_driver", "text"), LOST_CUDA)
def test_each_of_cudas_errors_of_a_lost_card_is_known_by_code_name_and_text(code, name, of_driver, text):
    texts = [f"CUDA error: {text}", f"CUDA driver error: {text}", f"Triton Error [CUDA]: {text}", f"failed: {name}"]
    texts += [f"NCCL error: unhandled cuda error\nLast error:\nCuda failure {code} '{text}'"]
    texts += [f"Triton Error [CUDA]: {of_driver}"] if of_driver else []
    assert [each for each in texts if not is_lost_gpu(RuntimeError(each))] == []
    by_code = torch.AcceleratorError("CUDA error: worded otherwise")
    by_code.error_code = code
    assert is_lost_gpu(by_code)


@pytest.mark.parametrize("text", NEITHER)
def test_other_errors_are_neither(text):
    assert (is_out_of_memory(RuntimeError(text)), is_lost_gpu(RuntimeError(text))) == (False, False)


def test_torchs_own_error_needs_no_text():
    assert is_out_of_memory(torch.OutOfMemoryError("whatever"))
    assert not is_out_of_memory(MemoryError("out of memory"))


def test_what_to_do_is_said_and_where_the_memory_was_short():
    card = torch.device("cuda", 1)
    words = r"the GPU cuda:1 ran out of memory: take less \(CUDA out of memory"
    with pytest.raises(GpuMemoryError, match=words), gpu_errors("take less", device=card):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    with pytest.raises(GpuMemoryError, match="this machine ran out of memory"), gpu_errors("take less"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(RuntimeError, match="shape mismatch"), gpu_errors("take less"):
        raise RuntimeError("shape mismatch")
