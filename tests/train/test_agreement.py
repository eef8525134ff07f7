"""What ranks agree on from all their cards, without any: the others' answers are given."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.train.worlds import config_for
from tsp.config.cards import Card
from tsp.errors import ConfigError, GpuMemoryError
from tsp.train import agreement
from tsp.train.agreement import agree


def make_config(**changes):
    return config_for(Path("data"), "store", **changes)


def card(memory_mib, compute=(9, 0)):
    return Card(name=f"a card of {memory_mib} MiB", memory_mib=memory_mib, compute=compute)


@pytest.fixture
def agreed(monkeypatch):
    """What ranks with these cards agree on; None is a rank on a CPU."""

    def agree_on(*cards, gpus=None, other_digest=False, rank=0, **changes):
        monkeypatch.setattr(agreement, "card_of", lambda _: cards[rank])
        group = SimpleNamespace(
            device=torch.device("cpu"), world_size=len(cards), is_main=rank == 0,
            gather=lambda mine: [mine if at == rank else (other, "another" if other_digest else mine[1])
                                 for at, other in enumerate(cards)],
        )  # fmt: skip
        return agree(make_config(gpus=gpus or len(cards), **changes), group)

    return agree_on


@pytest.mark.parametrize(
    ("cards", "downscale", "precision"),
    [
        ([card(81_000), card(81_000)], 1, "bf16"),
        ([card(81_000), card(16_000), card(40_000)], 2, "bf16"),
        ([card(81_000), card(29_000), card(14_000)], 2, "bf16"),
        ([card(8_000), card(81_000, (7, 0))], 4, "fp16"),
        ([card(81_000), card(81_000, (6, 1))], 1, "fp32"),
        ([None, None, None], 1, "fp32"),
        ([card(16_000)], 2, "bf16"),
    ],
)
def test_the_smallest_card_decides_the_batch_and_the_weakest_the_number_format(agreed, cards, downscale, precision):
    sizes, numerics = agreed(*cards)
    assert (sizes.downscale, sizes.world_size, numerics.precision) == (downscale, len(cards), precision)
    assert sizes.batch_per_gpu == make_config().batch_per_gpu // downscale
    assert sizes.global_batch == sizes.batch_per_gpu * len(cards)


@pytest.mark.parametrize(
    ("cards", "asked", "is_little"),
    [
        ([card(81_000), card(16_000)], "1", True),
        ([card(81_000), card(16_000)], "2", False),
        ([card(81_000), card(16_000)], "4", False),
        ([card(81_000), card(6_999)], "4", True),  # too small for any
        ([None], "4", False),
    ],
)
def test_a_factor_that_was_asked_for_counts_and_a_card_too_small_for_it_is_warned_of(
    agreed, caplog, cards, asked, is_little
):
    assert agreed(*cards, downscale=asked)[0].downscale == int(asked)
    smallest = min((item.memory_mib for item in cards if item), default=None)
    warning = f"the smallest GPU has {smallest} MiB, which is little for --downscale {asked}"
    said = [item.getMessage() for item in caplog.records if item.name == agreement.__name__]
    assert [text for text in said if "the smallest" in text] == [warning] * is_little


def test_a_card_too_small_for_any_factor_ends_the_run_unless_one_was_asked_for(agreed):
    with pytest.raises(GpuMemoryError, match="a GPU with 6999 MiB is too small"):
        agreed(card(81_000), card(6_999))


@pytest.mark.parametrize(
    ("cards", "ranks"), [([card(81_000), None, card(81_000), None], r"\[1, 3\]"), ([None, card(81_000)], r"\[0\]")]
)
def test_ranks_that_find_no_card_beside_others_that_do_are_named(agreed, cards, ranks):
    with pytest.raises(ConfigError, match=rf"ranks {ranks} found no GPU, but the others did"):
        agreed(*cards)


def test_ranks_of_different_configurations_do_not_train_together(agreed):
    with pytest.raises(ConfigError, match="started with different configurations: delete the run"):
        agreed(None, None, other_digest=True)


@pytest.mark.parametrize(("gpus", "is_warned"), [(2, False), (1, True), (4, True)])
def test_learning_rates_follow_the_ranks_that_were_started(agreed, caplog, gpus, is_warned):
    sizes, _ = agreed(None, None, gpus=gpus)
    assert sizes.head_lr == pytest.approx(2 * make_config().optim.head_lr)
    assert (f"2 ranks started, but --gpus is {gpus}" in caplog.text) is is_warned


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("cards", "starts"),
    [
        (
            [card(81_000), card(16_000)],
            ["number format bf16: the weakest GPU", "2 ranks on GPUs of at least 16000 MiB, downscale factor 2: "],
        ),
        ([None, None], ["2 ranks on the CPU, downscale factor 1: "]),
    ],
)
def test_the_main_rank_alone_says_what_was_agreed_on(agreed, caplog, rank, cards, starts):
    caplog.set_level("INFO", agreement.__name__)
    agreed(*cards, rank=rank)
    said = [item.getMessage() for item in caplog.records if item.name == agreement.__name__]
    assert [text[: len(start)] for text, start in zip(said, starts, strict=True)] == starts if rank == 0 else said == []
