"""The downscale rule: factor from the GPU's memory, batch and learning rates from the factor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.test_run import make
from tsp.config.sizing import downscale_for, effective_sizes, gpu_memory_mib
from tsp.errors import ConfigError, GpuMemoryError

CARDS_MIB = {
    "P4": (7680, 4), "RTX 2080": (7982, 4), "2080 Ti": (11019, 4), "T4": (15109, 2), "T4 again": (15360, 2),
    "V100 16": (16160, 2), "A16": (16384, 2), "A10": (22731, 2), "L4": (23034, 2), "V100 32": (32510, 1),
    "A100 40": (39538, 1), "H100": (81559, 1),
}  # fmt: skip


@pytest.mark.parametrize(("memory_mib", "factor"), CARDS_MIB.values(), ids=CARDS_MIB)
def test_real_cards_get_the_published_factor(memory_mib, factor):
    assert downscale_for(memory_mib) == factor


@pytest.mark.parametrize(("memory_mib", "factor"), [(29000, 1), (28999, 2), (14000, 2), (13999, 4), (7000, 4)])
def test_the_borders_belong_to_the_larger_card(memory_mib, factor):
    assert downscale_for(memory_mib) == factor


def test_a_card_that_is_too_small_is_refused():
    with pytest.raises(GpuMemoryError, match="6999 MiB is too small"):
        downscale_for(6999)


@pytest.mark.parametrize(
    ("label", "memory_mib"),
    [("16384", 16384), ("42505273344", 40536), ("80Gi", 81920), ("16384Mi", 16384), ("16384MiB", 16384),
     ("16GiB", 16384), ("8000M", 7629), (" 24 Gi ", 24576), ("2Ti", 2097152), ("2097152Ki", 2048), ("24G", 22888),
     ("1T", 953674), ("16000000k", 15258), ("8.5Gi", 8704), ("268435455", 268435455), ("268435456", 256)],
)  # fmt: skip
def test_labels_in_any_unit_become_mib(label, memory_mib):
    assert gpu_memory_mib(label) == memory_mib


@pytest.mark.parametrize("label", ["", "big", "-1", "12Q", "1.2.3", "16i"])
def test_a_label_that_is_no_size_is_refused(label):
    with pytest.raises(ConfigError, match="is not a size"):
        gpu_memory_mib(label)


def test_two_gpus_of_32_gb_train_as_published():
    sizes = effective_sizes(make(overrides={"gpus": 2}), downscale=1)
    assert (sizes.batch_per_gpu, sizes.global_batch) == (32, 64)
    assert (sizes.backbone_lr, sizes.head_lr) == (2e-4, 8e-3)


def test_the_stems_learning_rate_is_scaled_as_the_others_are():
    sizes = effective_sizes(make(overrides={"gpus": 8, "optim.stem_lr": 1e-3}), downscale=2)
    assert sizes.stem_lr == pytest.approx(4e-3)


def test_eight_gpus_of_8_gb_keep_the_learning_rate_per_clip():
    sizes = effective_sizes(make(overrides={"gpus": 8}), downscale=4)
    assert (sizes.batch_per_gpu, sizes.global_batch) == (8, 64)
    assert (sizes.backbone_lr, sizes.head_lr) == pytest.approx((2e-4, 8e-3))


@given(st.integers(1, 64), st.sampled_from([1, 2, 4]))
def test_learning_rate_per_clip_never_changes(gpus, downscale):
    config = make(overrides={"gpus": gpus})
    sizes = effective_sizes(config, downscale=downscale)
    assert sizes.head_lr / sizes.global_batch == pytest.approx(config.optim.head_lr / config.batch_per_gpu)


@pytest.mark.parametrize("downscale", [0, 3, 8])
def test_another_factor_is_refused(downscale):
    with pytest.raises(ConfigError, match="downscale must be one of"):
        effective_sizes(make(), downscale=downscale)


def test_a_batch_smaller_than_the_factor_is_refused():
    with pytest.raises(ConfigError, match="cannot be divided"):
        effective_sizes(make(overrides={"batch_per_gpu": 2}), downscale=4)
