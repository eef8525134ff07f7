"""What is said of stride, rate and table before an extraction begins."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.extract.conftest import SmallSet
from tests.jobs import do_job
from tsp.config.run import ClipConfig
from tsp.data.tables import VideoFacts, read_metadata
from tsp.extract.numbers import describe_numbers, odd_numbers, other_clips
from tsp.extract.slide_plan import SlidePlan

PLAN = SlidePlan(stride_frames=16, length_frames=16, rate_fps=15.0, pads_short=True)
VIDEOS = [VideoFacts(f"v{index}.mp4", 60.0, 30.0, 1800) for index in range(3)]


def test_a_feature_is_told_in_seconds_beside_what_others_take() -> None:
    said = describe_numbers(replace(PLAN, stride_frames=1))
    assert "one feature every 0.067 s" in said
    assert "from clips of 1.067 s" in said
    assert "16 for ActivityNet (1.067 s), 1 for THUMOS14 (0.067 s)" in said


def test_the_published_numbers_are_nothing_odd() -> None:
    assert list(odd_numbers(PLAN, VIDEOS)) == []
    assert list(odd_numbers(replace(PLAN, stride_frames=1), VIDEOS)) == []


@pytest.mark.parametrize(
    ("plan", "change", "words"),
    [
        (replace(PLAN, stride_frames=17), {}, "are not part of any feature"),
        (
            PLAN,
            {"fps": 10.0, "num_frames": 600},
            "fewer frames per second than clips in 1 video (such as v0.mp4, 10",
        ),
        (PLAN, {"fps": 15.0}, "such as v0.mp4: 1800 frames at 15 fps are 120.00 s, its duration is 60.00 s"),
        (PLAN, {"duration_sec": 30.0}, "contradicts itself for 1 video ("),
    ],
)
def test_what_does_not_fit_is_said_once(plan: SlidePlan, change: dict[str, float], words: str) -> None:
    videos = [replace(VIDEOS[0], **change), *VIDEOS[1:]]
    (sentence,) = odd_numbers(plan, videos)
    assert words in sentence


@pytest.mark.parametrize(
    ("plan", "trained", "words"),
    [
        (PLAN, None, ""),
        (PLAN, ClipConfig(crop_px=96), ""),
        (replace(PLAN, rate_fps=30.0, length_frames=8), ClipConfig(rate_fps=30.0, length_frames=8), ""),
        (replace(PLAN, rate_fps=30.0), None, "published encoders were trained on clips of 16 frames at 15 fps, but"),
        (replace(PLAN, length_frames=32), None, "these clips have 32 at 15 fps: give --clip-frames 16 --rate 15"),
        (PLAN, ClipConfig(rate_fps=7.5), "a.pth was trained on clips of 16 frames at 7.5 fps, but"),
        (PLAN, ClipConfig(length_frames=8), "these clips have 16 at 15 fps: give --clip-frames 8 --rate 15"),
    ],
)
def test_clips_of_another_kind_than_the_encoder_was_trained_on_are_told(
    plan: SlidePlan, trained: ClipConfig | None, words: str
) -> None:
    sentence = other_clips(plan, trained, where="a.pth")
    assert words in sentence
    assert bool(sentence) is bool(words)


@pytest.mark.parametrize(
    ("fps", "num_frames", "is_odd"),
    [
        # Two frames and a tenth of a second are left to rounding: five of 1800 frames at 30 a second.
        (30.0, 1805, False),
        (30.0, 1806, True),
        (30.0, 1795, False),
        (30.0, 1794, True),
        (60.0, 3608, False),
        (60.0, 3609, True),
    ],
)
def test_a_table_may_round_its_numbers_of_frames(fps: float, num_frames: int, is_odd: bool) -> None:
    said = list(odd_numbers(PLAN, [VideoFacts("a.mp4", 60.0, fps, num_frames)]))
    assert [f"{num_frames / fps:.2f} s, its duration is 60.00 s" in sentence for sentence in said] == [True] * is_odd


def test_a_rate_just_below_that_of_clips_repeats_frames() -> None:
    videos = [VideoFacts("a.mp4", 60.0, 15.0, 900), VideoFacts("b.mp4", 60.0, 14.99, 899)]
    (sentence,) = odd_numbers(PLAN, videos)
    assert sentence.startswith("fewer frames per second than clips in 1 video (such as b.mp4, 14.99 of 15 fps)")


def test_a_table_of_single_features_is_said() -> None:
    short = [replace(video, duration_sec=1.5, num_frames=45) for video in VIDEOS]
    (sentence,) = odd_numbers(PLAN, short)
    assert "3 of 3 videos have only one feature" in sentence
    assert list(odd_numbers(PLAN, [*VIDEOS, short[0]])) == []
    assert list(odd_numbers(PLAN, [*VIDEOS, *short])) == []  # half of them
    assert list(odd_numbers(PLAN, [*VIDEOS[1:], *short])) != []


@pytest.mark.parametrize("table", ["thumos14/thumos14_valid", "activitynet/activitynet_v1-3_valid"])
def test_published_tables_give_no_false_alarm(shared_dir: Path, table: str) -> None:
    videos = read_metadata(shared_dir / "data" / f"{table}_metadata.csv")
    said = [sentence for sentence in odd_numbers(PLAN, videos) if "contradicts" in sentence]
    assert said == []


def test_an_extraction_says_it(small_set: SmallSet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    do_job("extract", small_set.job(stride_frames=20))
    assert "one feature every 1.333 s" in caplog.text
    assert [record.levelname for record in caplog.records if "are not part of any feature" in record.message] == [
        "WARNING"
    ]
