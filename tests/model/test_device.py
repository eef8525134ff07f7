"""A pod that was promised a GPU never computes on the CPU, and says why it cannot use its GPU."""

import pytest
import torch

from tsp.config.cards import NEEDS_GPU, Card
from tsp.errors import ConfigError, exit_code_of
from tsp.model import device as device_module
from tsp.model.device import choose_device, driver_version


@pytest.fixture
def blind(monkeypatch):
    """No GPU is to be seen, by a torch that is built for CUDA 13.2."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    return lambda driver: monkeypatch.setattr(device_module, "driver_version", lambda: driver)


def test_without_a_promise_the_cpu_will_do(blind):
    assert choose_device(0, {}) == torch.device("cpu")


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (None, "no NVIDIA driver is visible.*needs driver 580.*runtimeClassName"),
        ("535.183.01", "driver 535.183.01 is too old.*CUDA 13.2, which needs driver 580"),
        ("580.82.07", "has driver 580.82.07, but CUDA finds no device.*nvidia-smi"),
    ],
)
def test_a_promised_gpu_that_cannot_be_used_ends_with_2_and_driver_and_runtime_class(blind, driver, words):
    blind(driver)
    with pytest.raises(ConfigError, match=words) as caught:
        choose_device(0, {NEEDS_GPU: "1"})
    assert exit_code_of(caught.value) == 2


def test_a_torch_for_cpus_is_said_to_be_one(blind, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match="built for CPUs"):
        choose_device(0, {NEEDS_GPU: "1"})


def test_a_card_that_the_build_has_no_kernels_for_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    card = Card(name="Tesla V100-SXM2-32GB", memory_mib=32510, compute=(7, 0))
    monkeypatch.setattr(device_module, "card_of", lambda device: card)
    with pytest.raises(ConfigError, match=r"no kernels for the Tesla V100-SXM2-32GB.*CUDA 12.6"):
        choose_device(0, {})


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n", "535.183.01"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\nGCC version: 12.3\n",
         "580.82.07"),
        ("nothing", None),
    ],
)  # fmt: skip
def test_the_drivers_version_is_read_from_its_own_file(tmp_path, text, version):
    (tmp_path / "version").write_text(text)
    assert driver_version(tmp_path / "version") == version
    assert driver_version(tmp_path / "none") is None
