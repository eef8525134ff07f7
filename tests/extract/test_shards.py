"""Shards: equal durations, the same everywhere, and together the whole."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.extract.conftest import SmallSet, write_metadata
from tests.jobs import do_job
from tsp.data.tables import VideoFacts, read_metadata, refuse_shared_names
from tsp.errors import DataError
from tsp.extract.shards import deal
from tsp.extract.video_parts import VideoParts


def facts(filename: str, num_frames: int) -> VideoFacts:
    return VideoFacts(filename, num_frames / 30, 30.0, num_frames)


tables = st.lists(st.integers(1, 10_000), min_size=1, max_size=60).map(
    lambda frames: [facts(f"v{index:03d}.mp4", number) for index, number in enumerate(frames)]
)


@given(tables, st.integers(1, 9))
def test_every_video_is_dealt_to_exactly_one_shard(videos: list[VideoFacts], num_shards: int) -> None:
    dealt = [video for shard in deal(videos, num_shards) for video in shard]
    assert sorted(video.name for video in dealt) == sorted(video.name for video in videos)


@given(tables, st.integers(1, 9))
def test_no_shard_has_more_than_one_video_too_much(videos: list[VideoFacts], num_shards: int) -> None:
    """Graham's bound for handing each video to the emptiest shard."""
    loads = [sum(video.duration_sec for video in shard) for shard in deal(videos, num_shards)]
    longest = max(video.duration_sec for video in videos)
    assert max(loads) <= sum(loads) / num_shards + longest * (1 - 1 / num_shards) + 1e-6


def best_of_all(durations: list[int], num_shards: int) -> int:
    """The fullest shard of the best division: the videos are tried in every shard, the longest first."""
    best = sum(durations)

    def place(rest: list[int], loads: tuple[int, ...]) -> None:
        nonlocal best
        if not rest:
            best = min(best, max(loads))
            return
        for at, load in enumerate(loads):
            if load + rest[0] < best and load not in loads[:at]:
                place(rest[1:], (*loads[:at], load + rest[0], *loads[at + 1 :]))

    place(sorted(durations, reverse=True), (0,) * num_shards)
    return best


@example([1362, 1362, 1271, 1271, 1271, 1271], 5)  # two must share a shard, which no mean shows
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=8), st.integers(1, 5))
def test_the_fullest_shard_is_a_third_longer_than_in_the_best_division_at_most(
    frames: list[int], num_shards: int
) -> None:
    """Graham's bound for handing out the longest videos first: 4/3 - 1/(3 m)."""
    videos = [facts(f"v{index}.mp4", number) for index, number in enumerate(frames)]
    fullest = max(sum(video.num_frames for video in shard) for shard in deal(videos, num_shards))
    assert fullest <= best_of_all(frames, num_shards) * (4 / 3 - 1 / (3 * num_shards)) + 1e-6


def test_shards_are_balanced_by_duration_and_not_by_count() -> None:
    videos = [facts("hour.mp4", 108_000), *(facts(f"v{index}.mp4", 1800) for index in range(60))]
    shards = deal(videos, 2)
    assert [len(shard) for shard in shards] == [1, 60]


def test_the_order_of_the_table_does_not_change_the_shards() -> None:
    videos = [facts(f"v{index}.mp4", 100 + index % 3) for index in range(20)]
    assert deal(videos, 3) == deal(videos[::-1], 3)


def test_real_tables_are_dealt_evenly(shared_dir: Path) -> None:
    videos = read_metadata(shared_dir / "data" / "thumos14" / "thumos14_test_metadata.csv")
    loads = [sum(video.duration_sec for video in shard) for shard in deal(videos, 4)]
    assert max(loads) / min(loads) < 1.01


def test_the_last_shard_to_end_merges_the_work_of_all(small_set: SmallSet) -> None:
    answers = []
    for shard in (1, 0, 2):
        answers.append(do_job("extract", small_set.job(shards=3, shard=shard)))
    assert [answer.get("out") is not None for answer in answers] == [False, False, True]
    assert [answer["missing"] > 0 for answer in answers] == [True, True, False]
    with h5py.File(answers[-1]["out"]) as file:
        assert set(file) == {"long", "middle", "other", "short"}


def test_a_merge_after_the_last_shard_finds_it_done(small_set: SmallSet) -> None:
    for shard in range(2):
        do_job("extract", small_set.job(shards=2, shard=shard))
    answer = do_job("extract", small_set.job(shards=2, merge_only=True))
    assert (answer["videos"], answer["missing"], answer["out"]) == (4, 0, small_set.job()["out"])


def test_a_merge_names_what_is_missing(small_set: SmallSet) -> None:
    do_job("extract", small_set.job(shards=2, shard=1))
    with pytest.raises(DataError, match=r"2 of 4 videos have no features yet \(long, short\)"):
        do_job("extract", small_set.job(shards=2, merge_only=True))


def test_a_shard_with_a_broken_video_lets_the_others_end_and_the_last_one_says_it(small_set: SmallSet) -> None:
    write_metadata(small_set.root / "metadata.csv", {"gone.mp4": 900, **small_set.num_frames})
    first, second = (do_job("extract", small_set.job(shards=2, shard=shard)) for shard in range(2))
    assert first["exit_code"] == 0
    assert (second["exit_code"], second["broken"], second["missing"]) == (3, 1, 0)
    merged = do_job("extract", small_set.job(shards=2, merge_only=True, broken_videos="skip"))
    assert (merged["videos"], merged["broken"]) == (4, 1)


def test_another_shard_that_merges_is_left_to_it_but_a_restarted_one_goes_on(small_set: SmallSet) -> None:
    do_job("extract", small_set.job(shards=2, shard=0))
    lock = small_set.root / "out" / "features.h5.parts" / "merging.json"
    lock.write_text('{"shard": 0}')
    answer = do_job("extract", small_set.job(shards=2, shard=1))
    assert (answer["missing"], answer.get("out")) == (0, None)
    assert do_job("extract", small_set.job(shards=2, shard=0))["out"] == small_set.job()["out"]


@pytest.mark.parametrize("moment", ["all", "claim_merge"])
def test_a_shard_that_another_one_overtakes_with_the_merge_ends_well(
    moment: str, small_set: SmallSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_job("extract", small_set.job(shards=2, shard=0))
    real, calls = getattr(VideoParts, moment), []

    def overtaken(self: VideoParts, *given: object) -> object:
        calls.append(given)
        last_look = len(calls) == (2 if moment == "all" else 1)
        if last_look:
            monkeypatch.setattr(VideoParts, moment, real)
            assert do_job("extract", small_set.job(shards=2, merge_only=True))["videos"] == 4
        # Where the server knows no conditional writes, two shards can both believe that they merge.
        return True if moment == "claim_merge" else real(self, *given)

    monkeypatch.setattr(VideoParts, moment, overtaken)
    answer = do_job("extract", small_set.job(shards=2, shard=1))
    assert (answer["videos"], answer["missing"], answer["out"]) == (4, 0, small_set.job()["out"])


def test_parts_that_a_killed_merge_left_behind_go_with_the_next_look(small_set: SmallSet) -> None:
    do_job("extract", small_set.job())
    parts = small_set.root / "out" / "features.h5.parts"
    left = parts / "done" / "123" / "long.npy"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left")
    assert do_job("extract", small_set.job())["videos"] == 4
    assert not parts.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,fps\na.mp4,30\n", "lacks the column 'video-frames'"),
        ("filename,video-duration,fps,video-frames\na.mp4,1,30,many\n", r"row 2: video-frames is 'many'"),
        ("filename,video-duration,fps,video-frames\na.mp4,1,30,30\nb.mp4,1,0,30\n", r"row 3: fps is '0'"),
        ("filename,video-duration,fps,video-frames\na.mp4,1,30,30\na.avi,1,30,30\n", "two videos 'a': a.mp4 and a.avi"),
        ("filename,video-duration,fps,video-frames\n", "names no video"),
        ("filename,video-duration,fps,video-frames\n,1,30,30\n", "row 2: filename is empty"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        refuse_shared_names(path, (video.filename for video in read_metadata(path)))
