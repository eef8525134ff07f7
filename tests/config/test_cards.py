"""The number format that all cards of a run share, and what a card needs of driver and build."""

import pytest

from tsp.config.cards import Card, driver_for, explain_precision, has_kernels, precision_for
from tsp.errors import ConfigError

T4 = Card(name="Tesla T4", memory_mib=15360, compute=(7, 5))
P100 = Card(name="Tesla P100", memory_mib=16280, compute=(6, 0))
A100 = Card(name="NVIDIA A100-SXM4-80GB", memory_mib=81920, compute=(8, 0))
H100 = Card(name="NVIDIA H100", memory_mib=81559, compute=(9, 0))


def card(name, major, minor):
    return Card(name=name, memory_mib=16000, compute=(major, minor))


UNKNOWN = Card(name="node-7", memory_mib=16000)


@pytest.mark.parametrize(
    ("asked", "cards", "expected"),
    [
        ("auto", [], "fp32"),
        ("bf16", [], "bf16"),
        ("auto", [A100, H100], "bf16"),
        ("auto", [H100, T4, A100], "fp16"),
        ("auto", [T4, P100], "fp32"),
        ("auto", [UNKNOWN, H100], "bf16"),
        ("auto", [UNKNOWN], "fp32"),
        ("fp32", [H100], "fp32"),
        ("fp16", [P100], "fp16"),
        ("bf16", [A100], "bf16"),
        ("fp32", [], "fp32"),
        ("auto", [A100, P100, T4], "fp32"),
        ("auto", [card("a", 8, 9), card("b", 8, 0)], "bf16"),
        ("auto", [card("a", 7, 0)], "fp16"),
        ("auto", [card("a", 6, 9)], "fp32"),
        ("auto", [card("a", 7, 9), card("b", 9, 0)], "fp16"),
        ("auto", [card("a", 10, 0), card("b", 12, 0)], "bf16"),
        ("bf16", [UNKNOWN], "bf16"),
    ],
)
def test_auto_follows_the_weakest_card(asked, cards, expected):
    assert precision_for(asked, cards) == expected


def test_a_format_that_a_card_lacks_is_refused_by_the_cards_name():
    with pytest.raises(ConfigError, match=r"bf16: the Tesla T4 \(compute capability 7.5\)"):
        precision_for("bf16", [A100, T4])
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        precision_for("fp16", [])


def test_the_explanation_names_the_card_that_decided():
    assert explain_precision("auto", [A100, T4]) == (
        "number format fp16: the weakest GPU is the Tesla T4 (compute capability 7.5)"
    )
    assert explain_precision("auto", [A100, card("the one", 7, 0), T4, UNKNOWN]).endswith(
        "the weakest GPU is the the one (compute capability 7.0)"
    )
    assert explain_precision("fp32", [A100]) == "number format fp32"
    assert explain_precision("auto", [UNKNOWN]) == explain_precision("auto", []) == "number format fp32"


@pytest.mark.parametrize(("cuda", "driver"), [("13.2", 580), ("12.6", 525), ("11.8", 450), ("99.0", None), ("", None)])
def test_a_cuda_version_needs_a_driver(cuda, driver):
    assert driver_for(cuda) == driver


@pytest.mark.parametrize(
    ("compute", "expected"),
    [((7, 0), False), ((7, 5), True), ((8, 0), True), ((8, 6), True), ((8, 9), True), ((9, 0), True), ((10, 3), True),
     ((12, 0), True), ((6, 1), False)],
)  # fmt: skip
def test_machine_code_runs_from_its_minor_version_on_and_the_rest_on_later_cards(compute, expected):
    assert has_kernels(compute, ["gfx90a", "sm_75", "sm_80", "sm_86", "sm_90a", "compute_90"]) is expected
    assert not has_kernels(compute, [])


@pytest.mark.parametrize(
    ("built_for", "runs_on", "not_on"),
    [
        ("sm_86", [(8, 6), (8, 9)], [(8, 5), (8, 0), (7, 9), (9, 0), (9, 6)]),
        ("sm_120", [(12, 0), (12, 1)], [(11, 9), (13, 0), (1, 20)]),
        ("compute_86", [(8, 6), (8, 9), (9, 0), (12, 0)], [(8, 5), (7, 9)]),
        ("gfx90a", [], [(9, 0), (9, 10)]),
    ],
)
def test_one_kind_of_code_runs_on_the_cards_that_it_is_for(built_for, runs_on, not_on):
    assert [has_kernels(compute, [built_for]) for compute in runs_on + not_on] == (
        [True] * len(runs_on) + [False] * len(not_on)
    )
