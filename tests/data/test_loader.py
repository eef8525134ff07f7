"""Batches of the small data set: the right clips, the same for any number of workers, bad clips by policy."""

import functools
import gc
import logging
import shutil
import tracemalloc
import unicodedata

import numpy as np
import pytest
import torch

from tests import reference
from tests.data.conftest import NUM_VIDEOS, SEGMENTS_PER_VIDEO
from tests.videos import FPS_30, Made, write_video
from tsp.data.copy_name import training_copy_name
from tsp.data.dataset import ClipDataset
from tsp.data.loader import build_loader, load_subset
from tsp.data.shared_memory import has_room_for_two
from tsp.data.transforms import STD, pixels_on_device
from tsp.data.video import ClipReader, VideoError
from tsp.data.video.training_copy import write_training_copy
from tsp.errors import ConfigError, DataError

NUM_SEGMENTS = NUM_VIDEOS * SEGMENTS_PER_VIDEO
NUM_ITEMS = 5 * NUM_SEGMENTS


def contents(loader):
    """Everything of the batches, comparable."""
    return [
        (
            batch.items.tolist(),
            batch.targets.tolist(),
            batch.pixels[..., :3].numpy().tobytes(),
            None if batch.row_weights is None else batch.row_weights.tolist(),
        )
        for batch in loader
    ]


def by_item(loader):
    return {
        item: (batch.pixels[row, ..., :3].numpy().tobytes(), batch.targets[row].tolist())
        for batch in loader
        for row, item in enumerate(batch.items.tolist())
    }


def test_validation_batches_are_those_of_the_plainest_reader(dataset_dir, make_config):
    loader = build_loader(make_config(dataset_dir, gvf="max"), "valid", batch=7)
    segments = load_subset(make_config(dataset_dir), "valid").segments
    assert (len(loader.dataset), len(loader.data.segments), loader.num_steps) == (NUM_ITEMS, NUM_SEGMENTS, 9)
    assert loader.data.num_classes == (2, 2)
    seen, decoded = 0, functools.cache(reference.decode_all)
    for batch in loader:
        clips = pixels_on_device(batch, "cpu")
        for row, item in enumerate(batch.items.tolist()):
            segment = segments[item % NUM_SEGMENTS]
            slack = segment.end_sec - segment.start_sec - 16 / 15
            start = segment.start_sec + np.linspace(0, 1, 5)[item // NUM_SEGMENTS] * slack
            times, frames = decoded(dataset_dir / "videos" / segment.filename)
            wanted = frames[reference.clip_indices(times, start, FPS_30)]
            assert (clips[row] - reference.transformed(wanted)).abs().max() < 1e-5
            assert tuple(batch.targets[row].tolist()) == segment.labels
            assert batch.gvf[row, 0] == int(segment.video[1:])
            assert f"row {segment.row}" in batch.names[row]
            seen += 1
    assert seen == NUM_ITEMS


@pytest.mark.parametrize("one_pass", [False, True])
def test_batches_do_not_depend_on_workers_and_resume_at_any_step(dataset_dir, make_config, one_pass):
    def load(workers=0, start_step=0, epoch=3):
        config = make_config(dataset_dir, workers=workers, one_pass=one_pass)
        return contents(build_loader(config, "train", batch=8, epoch=epoch, start_step=start_step))

    whole = load()
    assert len(whole) == 8
    assert load(workers=2) == whole
    assert load(workers=1, start_step=5) == whole[5:]
    assert load(start_step=8) == []
    assert load(epoch=4)[0] != whole[0]


@pytest.mark.parametrize("copy_format", [None, "mjpeg", "raw"])
def test_one_pass_and_frames_left_out_give_each_clip_the_same_bits(
    dataset_dir, copies_dir, make_config, monkeypatch, copy_format
):
    root, copies = (copies_dir(copy_format), True) if copy_format else (dataset_dir, False)

    def load(one_pass):
        config = make_config(root, training_copy=copies, one_pass=one_pass)
        return by_item(build_loader(config, "train", batch=8, epoch=1))

    single = load(one_pass=False)
    assert len(single) == NUM_ITEMS
    assert load(one_pass=True) == single
    monkeypatch.setattr("tsp.data.dataset.ClipReader", functools.partial(ClipReader, short_cuts=False))
    assert load(one_pass=False) == load(one_pass=True) == single


def test_a_resumed_epoch_does_not_decode_what_was_done(dataset_dir, make_config, monkeypatch):
    read = []
    original = ClipDataset.read_clip
    monkeypatch.setattr(
        ClipDataset, "read_clip", lambda self, item, out: read.append(item) or original(self, item, out)
    )
    batches = list(build_loader(make_config(dataset_dir), "train", batch=8, start_step=6))
    assert read == [item for batch in batches for item in batch.items.tolist()]
    assert len(read) == NUM_ITEMS - 48


def test_ranks_together_read_every_clip(dataset_dir, make_config):
    items = [
        item
        for rank in range(3)
        for batch in build_loader(make_config(dataset_dir), "valid", batch=7, rank=rank, world_size=3)
        for item in batch.items.tolist()
    ]
    assert sorted(items) == list(range(NUM_ITEMS))


def test_tables_and_features_are_passed_to_workers_by_handle(dataset_dir, make_config):
    dataset = build_loader(make_config(dataset_dir, gvf="max"), "train", batch=8).dataset
    assert dataset.segments.times.is_shared()
    assert dataset.segments.name_bytes.is_shared()
    assert dataset.gvf.is_shared()


@pytest.mark.parametrize(("copy_format", "most_levels"), [("mjpeg", 4.0), ("raw", 0.3)])
def test_training_copies_give_the_same_clips_up_to_coding(
    dataset_dir, copies_dir, make_config, copy_format, most_levels
):
    root = copies_dir(copy_format)
    exact = build_loader(make_config(dataset_dir), "train", batch=8)
    copies = build_loader(make_config(root, training_copy=True), "train", batch=8)
    levels = torch.tensor(STD).view(3, 1, 1, 1) * 255
    for one, other in zip(exact, copies, strict=True):
        assert other.pixels.shape[2:] == (112, 112, 4)
        assert other.items.tolist() == one.items.tolist()
        difference = (pixels_on_device(one, "cpu") - pixels_on_device(other, "cpu")).abs() * levels
        assert difference.mean() < most_levels


def test_a_training_copy_of_another_size_is_refused(dataset_dir, make_config, tmp_path):
    root = tmp_path / "small"
    shutil.copytree(dataset_dir, root)
    for video in (root / "videos").glob("*.mp4"):
        write_training_copy(video, video.parent / training_copy_name(video.name), height_px=112, width_px=112)
    with pytest.raises(DataError, match="has frames of 112x112, this run resizes to 128x171: make it again"):
        list(build_loader(make_config(root, training_copy=True), "train", batch=8))


def test_a_missing_training_copy_says_how_to_make_it(dataset_dir, make_config):
    with pytest.raises(DataError, match=r"no training copy .*\.train\.mov: make it with 'tspctl data standardize"):
        list(build_loader(make_config(dataset_dir, training_copy=True), "train", batch=8))


@pytest.fixture
def broken_dir(dataset_dir, tmp_path):
    """v1 is no video, v2 ends after a second."""
    root = tmp_path / "broken"
    shutil.copytree(dataset_dir, root)
    (root / "videos" / "v1.mp4").write_bytes(b"no video")
    write_video(root / "videos" / "v2.mp4", Made(num_frames=33))
    return root


def test_a_video_is_found_under_the_other_spelling_of_its_accents(dataset_dir, make_config, tmp_path):
    root = tmp_path / "accents"
    shutil.copytree(dataset_dir, root)
    (root / "videos/v0.mp4").rename(root / "videos" / unicodedata.normalize("NFD", "é.mp4"))
    table = (root / "table.csv").read_text().replace("v0.mp4", unicodedata.normalize("NFC", "é.mp4"))
    (root / "table.csv").write_text(table)
    assert len(build_loader(make_config(root), "valid", batch=60).data.segments) == NUM_SEGMENTS
    (batch,) = build_loader(make_config(root), "valid", batch=60)
    assert batch.num_bad == 0


def test_policy_fail_ends_with_file_row_and_reason(broken_dir, make_config):
    with pytest.raises(VideoError, match=r"v1\.mp4.*table\.csv row [567]") as caught:
        list(build_loader(make_config(broken_dir, bad_clips="fail", workers=1), "valid", batch=8))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(("policy", "num_bad"), [("resample", 30), ("skip", 30)])
@pytest.mark.parametrize("one_pass", [False, True])
def test_bad_clips_keep_their_place_without_labels(broken_dir, make_config, policy, num_bad, one_pass, caplog):
    config = make_config(broken_dir, bad_clips=policy, max_bad_share=0.6, one_pass=one_pass)
    loader = build_loader(config, "train", batch=8, epoch=2)
    with caplog.at_level(logging.WARNING):
        batches = list(loader)
    assert [len(batch) for batch in batches] == [8] * 7 + [4]
    bad = [
        (batch.targets[row].tolist(), batch.pixels[row])
        for batch in batches
        for row, item in enumerate(batch.items.tolist())
        if item < 0
    ]
    # v1 fails at every start; v2 has one segment that fits within what is left of it, at some starts.
    assert 15 + 10 <= len(bad) <= num_bad
    assert all(targets == [-1, -1] for targets, _ in bad)
    assert loader.num_bad >= len(bad)
    files = [record.getMessage() for record in caplog.records if "bad clip" in record.getMessage()]
    assert len(files) == 2
    assert all("table.csv row" in message for message in files)


def test_resampling_finds_another_start_where_there_is_one(broken_dir, make_config):
    counts = {}
    for policy in ("resample", "skip"):
        config = make_config(broken_dir, bad_clips=policy, max_bad_share=1.0)
        batches = list(build_loader(config, "valid", batch=60))
        counts[policy] = sum(int((batch.items < 0).sum()) for batch in batches)
    assert counts["resample"] < counts["skip"]


def test_too_many_bad_clips_end_the_run(broken_dir, make_config):
    with pytest.raises(DataError, match=r"more than 10% of this rank's epoch \(data\.max_bad_share\)"):
        list(build_loader(make_config(broken_dir), "train", batch=8))


@pytest.mark.parametrize(("rows", "said"), [([5], "1 segment"), ([3, 5], "2 segments")])
def test_a_run_reports_segments_that_end_before_they_start(dataset_dir, make_config, tmp_path, caplog, rows, said):
    folder = shutil.copytree(dataset_dir, tmp_path / "copy")
    lines = [line.split(",") for line in (folder / "table.csv").read_text().splitlines()]
    for row in rows:
        lines[row - 1][2] = "-1"
    (folder / "table.csv").write_text("".join(",".join(cells) + "\n" for cells in lines))
    with caplog.at_level(logging.WARNING):
        data = load_subset(make_config(folder), "train")
    assert not set(rows) & {data.segments[index].row for index in range(len(data.segments))}
    assert f"{said} left out because the end is before the start (the first in row {rows[0]})" in caplog.text


def test_a_missing_folder_and_a_table_that_changed_are_noticed(dataset_dir, make_config, tmp_path):
    with pytest.raises(ConfigError, match="does not exist: check --data"):
        build_loader(make_config(tmp_path / "nowhere"), "train", batch=8)
    root = tmp_path / "changing"
    shutil.copytree(dataset_dir, root)
    assert len(build_loader(make_config(root), "train", batch=8).data.segments) == 12
    lines = (root / "table.csv").read_text().splitlines()
    (root / "table.csv").write_text("\n".join(lines[:-1]))
    assert len(build_loader(make_config(root), "train", batch=8).data.segments) == 11


def test_memory_stays_flat_over_epochs(dataset_dir, make_config):
    def memory_after(epoch):
        for batch in build_loader(make_config(dataset_dir), "train", batch=4, epoch=epoch):
            assert batch.pixels.dtype == torch.uint8
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    first = [memory_after(epoch) for epoch in range(2)][-1]
    grown = [memory_after(epoch) for epoch in range(2, 4)][-1] - first
    tracemalloc.stop()
    assert grown < 50_000


@pytest.mark.parametrize(("cpus", "room_for", "expected"), [(6, 99, 5), (1, 99, 1), (6, 2, 2), (6, 0, 1), (64, 99, 8)])
def test_workers_that_nobody_chose_follow_cpus_and_shared_memory(
    dataset_dir, make_config, monkeypatch, cpus, room_for, expected
):
    monkeypatch.setattr("tsp.data.loader.rank_cpus", lambda: cpus)
    monkeypatch.setattr("tsp.data.shared_memory.has_room", lambda batch_bytes, workers: workers <= room_for)
    assert build_loader(make_config(dataset_dir, workers=None), "train", batch=8).num_workers == expected
    assert build_loader(make_config(dataset_dir, workers=3), "train", batch=8).num_workers == 3


@pytest.mark.parametrize(("size_mib", "second"), [(256, False), (293, False), (294, True), (8192, True)])
def test_a_second_loader_starts_early_only_where_both_fit(monkeypatch, tmp_path, size_mib, second):
    """Batches of 49 MiB, two for a worker and one in use, of each: the first may not have filled its share yet."""
    mib = 1 << 20
    monkeypatch.setattr("tsp.data.shared_memory.SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("tsp.data.shared_memory._size_and_free_bytes", lambda: (size_mib * mib, size_mib * mib))
    assert has_room_for_two(49 * mib, 1) is second
