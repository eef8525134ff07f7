"""What the data path gives and a step takes, before a run is started; and how many CPUs there really are."""

from dataclasses import replace

import pytest

from tsp.config.run import DataConfig, SubsetConfig
from tsp.config.throughput import Forecast, cure, data_clips_per_sec, forecast, step_clips_per_sec

SUBSET = SubsetConfig(csv="a.csv", videos="a")
DATA = DataConfig(name="activitynet", root="/data", train=SUBSET, valid=SUBSET, workers=6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 6000 / 175),
        ({"height_px": 180}, 6000 / 20.7),
        ({"one_pass": True}, 6000 / 116),
        ({"training_copy": True}, 6000 / 1.9),
        ({"workers": 12}, 8000 / 175),
        ({"workers": 0}, 1000 / 175),
        ({"workers": None}, 7000 / 175),
    ],
)
def test_a_ranks_workers_decode_as_measured_on_the_cpus_that_there_are(changes, expected):
    assert data_clips_per_sec(replace(DATA, **changes), cpus=8) == pytest.approx(expected)


def test_a_step_takes_what_its_card_computes():
    h200 = step_clips_per_sec("r2plus1d_34", "NVIDIA-H200")
    assert h200 == pytest.approx(333, abs=5)
    assert step_clips_per_sec("r2plus1d_34", "NVIDIA A100-SXM4-80GB") == pytest.approx(h200 * 312 / 989)
    assert step_clips_per_sec("r2plus1d_34", "NVIDIA L40S") == pytest.approx(h200 * 181 / 989)
    assert step_clips_per_sec("r2plus1d_34", "a card of tomorrow") is None


CARDS_TFLOPS = {
    "H200": 989, "H100": 989, "GH200": 989, "B200": 2250, "B100": 1750, "GB200": 2500, "H800": 989, "H20": 148,
    "A100": 312, "A800": 312, "A30": 165, "A40": 150, "A10": 125, "L40": 181, "L20": 119, "L4": 121, "V100": 125,
    "T4": 65, "RTX 4090": 165, "RTX 3090": 71, "RTX 5090": 209, "RTX A6000": 155,
}  # fmt: skip
"""Dense peaks in half precision by NVIDIA's data sheets, copied a second time."""


@pytest.mark.parametrize("card", CARDS_TFLOPS)
def test_every_card_is_as_fast_as_its_data_sheet_says(card):
    of_t4 = step_clips_per_sec("r2plus1d_34", "Tesla T4")
    assert step_clips_per_sec("r2plus1d_34", f"NVIDIA {card}") == pytest.approx(of_t4 * CARDS_TFLOPS[card] / 65)


@pytest.mark.parametrize(("share", "is_short"), [(0.85, True), (0.95, False), (1.05, False)])
def test_a_data_path_that_is_a_tenth_too_slow_is_still_fast_enough(share, is_short):
    assert Forecast(data=share * 100, step=100.0, text="").is_short is is_short


def test_the_forecast_says_what_is_short_and_what_cures_it():
    short = forecast(DATA, "r2plus1d_34", gpu_name="NVIDIA-H100-80GB-HBM3", cpus=8)
    assert short.is_short
    assert short.text.startswith("720p H.264 provides about 34 clips/s per rank with 6 workers; r2plus1d_34 on")
    assert "write training copies" in short.text
    enough = forecast(replace(DATA, training_copy=True), "r2plus1d_34", gpu_name="NVIDIA-H100-80GB-HBM3", cpus=8)
    assert (enough.is_short, ": " in enough.text) == (False, False)
    assert forecast(DATA, "r2plus1d_34", gpu_name="unknown", cpus=8) is None


@pytest.mark.parametrize(
    ("changes", "cpus", "words", "not_said"),
    [
        ({}, 8, ["training copies", "--one-pass", "--workers 8, now 6"], ["more CPUs"]),
        ({"training_copy": True}, 6, ["--one-pass", "more CPUs"], ["training copies", "--workers"]),
        ({"workers": None}, 6, ["training copies", "more CPUs"], ["--workers"]),
        ({"workers": None}, 32, ["--workers 32, now 8"], ["more CPUs"]),
        ({"training_copy": True, "one_pass": True}, 12, ["--workers 12"], ["--one-pass", "copies"]),
    ],
)
def test_the_cure_fits_the_data_at_hand(changes, cpus, words, not_said):
    text = cure(replace(DATA, **changes), cpus=cpus)
    assert all(word in text for word in words)
    assert not any(word in text for word in not_said)


@pytest.mark.parametrize(
    ("name", "as_fast_as"),
    [
        ("NVIDIA-A10G", "A10"),
        ("NVIDIA-L40S", "L40"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("Tesla T4", "T4"),
        ("NVIDIA RTX A1000 Laptop GPU", None),
        ("NVIDIA-RTX-A4000", None),
        ("Quadro-T400", None),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", None),
        ("NVIDIA-A100-SXM4-80GB-SHARED", None),
        ("NVIDIA H200 NVL", "H200"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA RTX 5000 Ada Generation", None),
    ],
)
def test_a_card_is_known_by_a_whole_part_of_its_name(name, as_fast_as):
    expected = step_clips_per_sec("r2plus1d_34", as_fast_as) if as_fast_as else None
    assert step_clips_per_sec("r2plus1d_34", name) == expected
