"""The demo data set: formats, balance, what it may and may not tell."""

import csv
import dataclasses
import hashlib
import json
import logging
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.jobs import do_job
from tsp.config.jobs import DemoJob
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import ACTION_COLUMN, REGION_COLUMN
from tsp.data.segments import load_segments
from tsp.data.video.inspect import inspect_video
from tsp.prepare import demo
from tsp.prepare.demo import _deal_labels, _project, _watched, draw_demo
from tsp.prepare.demo_scene import ACTIONS, BACKGROUND, Segment, draw_frames, draw_timeline


def demo_heads(folder: Path) -> list[tuple[str, Path]]:
    labels = load_dataset("demo").labels
    return [(column, folder / labels[column]) for column in (ACTION_COLUMN, REGION_COLUMN)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_that_the_recipe_names_is_there_and_loads(demo_folder):
    config = resolve(load_dataset("demo"), "tsp", name="run", store={"uri": "/tmp/store"}, root=str(demo_folder))
    for subset, num_videos in ((config.data.train, 4), (config.data.valid, 3)):
        table = load_segments(demo_folder / subset.csv, demo_heads(demo_folder), config.clips)
        assert table.counts.rows == table.counts.kept == 4 * num_videos
        assert all((demo_folder / subset.videos / name).is_file() for name in table.filenames)
        with h5py.File(demo_folder / subset.gvf) as file:
            assert {Path(name).stem for name in table.filenames} <= set(file)
            assert all(file[name].shape == (512,) and np.isfinite(file[name]).all() for name in file)


def test_guessing_gives_a_third_on_actions_and_a_half_on_regions(demo_folder):
    rows = rows_of(demo_folder / "demo_valid_tsp_groundtruth.csv")
    actions = [row["action-label"] for row in rows if row["action-label"]]
    assert {name: actions.count(name) for name in ACTIONS} == dict.fromkeys(ACTIONS, 2)
    assert [row["temporal-region-label"] for row in rows].count("No action") == len(rows) / 2


def test_segments_follow_one_another_without_gap_to_the_end_of_their_video(demo_folder):
    for subset in ("train", "valid"):
        ends: dict[str, str] = {}
        for row in rows_of(demo_folder / f"demo_{subset}_tsp_groundtruth.csv"):
            assert row["t-start"] == ends.get(row["filename"], "0.0")
            ends[row["filename"]] = row["t-end"]
            last = row
        assert float(last["t-end"]) == float(last["video-duration"])


def test_the_videos_hold_what_the_metadata_says_as_h264_at_30_fps_with_b_frames(demo_folder):
    for row in rows_of(demo_folder / "demo_train_metadata.csv"):
        report = inspect_video(demo_folder / "train" / row["filename"], decode_all=True)
        assert (report.codec, report.faults, report.constant_rate) == ("h264", (), True)
        assert (report.fps, report.num_frames) == (float(row["fps"]), int(row["video-frames"]))
        assert report.duration_sec == pytest.approx(float(row["video-duration"]))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".h5")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(demo_folder, tmp_path):
    job = DemoJob(dest="", num_train_videos=4, num_valid_videos=3)
    draw_demo(tmp_path / "again", job, workers=2)
    assert digests(tmp_path / "again") == digests(demo_folder)
    draw_demo(tmp_path / "other", DemoJob(dest="", num_train_videos=1, num_valid_videos=1, seed=1), workers=1)
    train = "train/train_000.mp4"
    assert digests(tmp_path / "other")[train] != digests(demo_folder)[train]


def test_no_training_video_is_a_validation_video(demo_folder):
    train, valid = ({hashlib.sha256(path.read_bytes()).hexdigest() for path in (demo_folder / subset).iterdir()}
                    for subset in ("train", "valid"))  # fmt: skip
    assert not train & valid


def test_a_seed_draws_the_same_scenes_in_every_version_so_that_accuracies_can_be_compared():
    """By what this version draws: each frame as one sum over all of its pixels, in which a shifted shape shows."""
    rng = np.random.default_rng(7)
    timeline = draw_timeline(rng, [*ACTIONS, BACKGROUND, BACKGROUND])
    assert [segment.end_sec for segment in timeline] == [2.1, 4.0, 5.9, 8.0, 9.8]
    frames = list(draw_frames(rng, timeline))
    assert len(frames) == 294
    weights = np.random.default_rng(1).normal(size=frames[0].shape)
    sums = [float((frame * weights).sum() / np.sqrt(weights.size)) for frame in frames[3::24]]
    assert sums == pytest.approx(
        [-159.75, -176.15, -148.27, -191.48, -155.13, -232.86, -217.49, -222.49, -182.9, -162.02, -174.48, -200.01,
         -203.15], abs=0.05,
    )  # fmt: skip
    looks: list[np.ndarray] = []
    assert sum(1 for _ in _watched(iter(frames), looks)) == 294
    assert (len(looks), looks[0].shape) == (59, (288,))
    assert looks[1][::40].tolist() == pytest.approx(
        [0.3716, 0.0, 0.3513, 0.7257, 0.1432, 0.2935, 0.3356, 0.0], abs=1e-3
    )
    features = _project(np.stack(looks))
    assert features.max(axis=0)[::100].tolist() == pytest.approx([0.389, 1.052, 0.738, 0.242, 0.338, 0.382], abs=2e-3)
    assert float(features.sum()) == pytest.approx(5956.0, abs=2)
    acts = [
        [label for label in order if label != BACKGROUND] for order in _deal_labels(np.random.default_rng((0, 0)), 3)
    ]
    assert acts == [["Bouncing", "Shaking"], ["Shaking", "Pulsing"], ["Bouncing", "Pulsing"]]


def test_an_action_has_its_background_after_it_or_before_it():
    orders = _deal_labels(np.random.default_rng(0), 60)
    firsts = [order[0] == BACKGROUND for order in orders]
    assert 15 < sum(firsts) < 45
    assert all((order[0] == BACKGROUND) == (order[2] == BACKGROUND) for order in orders)
    assert all([label == BACKGROUND for label in order].count(True) == 2 for order in orders)


@pytest.mark.parametrize("label", ACTIONS)
def test_an_action_moves_pixels_and_background_hardly_does(label):
    def motion(wanted: str) -> float:
        frames = np.stack(list(draw_frames(np.random.default_rng(3), [Segment(0.0, 1.5, wanted)]))).astype(np.float32)
        return float(np.abs(np.diff(frames[::2], axis=0)).mean())

    assert motion(label) > 5 * motion(BACKGROUND)


def test_background_shows_every_shape_so_that_none_tells_the_region():
    timeline = draw_timeline(np.random.default_rng(0), [BACKGROUND] * 30)
    frames = iter(draw_frames(np.random.default_rng(1), timeline))
    leading = set()
    for segment in timeline:
        shot = [next(frames) for _ in range(round((segment.end_sec - segment.start_sec) * 30))]
        colour = shot[0].reshape(-1, 3).astype(int)
        vivid = colour[colour.max(axis=1) - colour.min(axis=1) > 90]
        leading.add(int(np.bincount(vivid.argmax(axis=1), minlength=3).argmax()))
    assert leading == {0, 1, 2}


def test_gvf_comes_from_pixels_and_differs_between_videos(demo_folder):
    with h5py.File(demo_folder / "tiny-max_gvf.h5") as most, h5py.File(demo_folder / "tiny-avg_gvf.h5") as mean:
        vectors = np.stack([most[name] for name in most])
        assert len(np.unique(vectors, axis=0)) == 7
        assert all((most[name][()] >= mean[name][()] - 1e-6).all() for name in most)


def test_the_job_answers_with_plain_rows(tmp_path):
    answer = do_job("demo", {"dest": str(tmp_path), "num_train_videos": 1, "num_valid_videos": 1})
    assert [(row["subset"], row["videos"], row["segments"]) for row in answer["rows"]] == [
        ("train", 1, 4),
        ("valid", 1, 4),
    ]
    json.dumps(answer)


def test_a_smaller_set_leaves_nothing_of_a_larger_one_that_was_there(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    draw_demo(tmp_path, DemoJob(dest=str(tmp_path), num_train_videos=3, num_valid_videos=1), workers=1)
    (tmp_path / "train" / "train_007.mp4").write_bytes(b"somebody's")
    draw_demo(tmp_path, DemoJob(dest=str(tmp_path), num_train_videos=1, num_valid_videos=1), workers=1)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["train_000.mp4", "train_007.mp4"]
    assert "train: 2 videos of an earlier set removed: train_001.mp4, train_002.mp4" in caplog.text
    assert "train: 1 video is not part of this set: train_007.mp4" in caplog.text


def test_a_set_that_is_drawn_anew_has_no_tables_until_its_videos_are_there(tmp_path, monkeypatch):
    """Those of the earlier set would describe videos that are no longer there."""
    job = DemoJob(dest=str(tmp_path), num_train_videos=1, num_valid_videos=1)
    draw_demo(tmp_path, job, workers=1)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "for_each", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_demo(tmp_path, dataclasses.replace(job, seed=1))
    assert not list(tmp_path.glob("*.csv"))
