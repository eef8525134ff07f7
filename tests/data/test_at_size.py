"""An epoch over ten thousand videos, and what is sent to workers of the largest published table."""

import dataclasses
import itertools
import multiprocessing
import os
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.conftest import write_rows
from tests.data.test_segments import published
from tests.videos import Made, write_video
from tsp.config.run import ClipConfig, HeadConfig, SubsetConfig
from tsp.data.copy_name import training_copy_name
from tsp.data.dataset import MAX_OPEN_COPIES, MAX_OPEN_VIDEOS
from tsp.data.loader import build_loader
from tsp.data.video.training_copy import write_training_copy

NUM_VIDEOS, NUM_STEPS = 10_000, 300
MOST_GROWTH_MIB_PER_1000_VIDEOS = 1.2
"""Of any process, once it is warm; a reader that gave no memory back grew by two and more."""
SMALL = {"resize_height_px": 24, "resize_width_px": 32, "crop_px": 16}
HANDLES_BESIDE_VIDEOS = 60
"""Pipes, shared memory of batches under way, libraries."""


@pytest.fixture(scope="module")
def many_videos(make_once):
    """Ten thousand names of one video and of its training copy, one segment each."""
    return make_once("many-videos", write_many_videos)


def write_many_videos(root):
    (root / "videos").mkdir()
    video = write_video(root / "one.mp4", Made(num_frames=12, width=32, height=24, gop=6))
    copy = root / training_copy_name(video.name)
    write_training_copy(video, copy, height_px=SMALL["resize_height_px"], width_px=SMALL["resize_width_px"])
    names = [f"v{number}.mp4" for number in range(NUM_VIDEOS)]
    for name in names:
        os.link(video, root / "videos" / name)
        os.link(copy, root / "videos" / training_copy_name(name))
    write_rows(root / "table.csv", [[name[:-4], 0, 0.4, "jump", 0.4, name, 30, 12, "Action"] for name in names])
    (root / "actions.json").write_text('["jump"]')
    (root / "regions.json").write_text('["Action"]')


def num_handles(process):
    return len(os.listdir(f"/proc/{process}/fd"))


def own_mib(process):
    """Memory that the process shares with no other and with no file."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize(("training_copy", "most_open"), [(False, MAX_OPEN_VIDEOS), (True, 2 * MAX_OPEN_COPIES)])
def test_handles_and_memory_stay_flat_over_six_thousand_of_ten_thousand_videos(
    many_videos, make_config, training_copy, most_open
):
    # Short clips of few pixels: what a reader does not give back, it keeps of each file that it opens.
    clips = ClipConfig(length_frames=4, per_segment=1, **SMALL)
    config = dataclasses.replace(make_config(many_videos, training_copy=training_copy, workers=2), clips=clips)
    loader = build_loader(config, "train", batch=20)
    assert len(loader) == NUM_VIDEOS // 20
    own_mib_at, before = {}, num_handles(os.getpid())
    for step, batch in enumerate(itertools.islice(loader, NUM_STEPS), start=1):
        assert (batch.items >= 0).all()
        # Workers end with the last batches.
        if step % 25 == 0 and step < NUM_STEPS - 10:
            processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
            assert len(processes) == 3
            # Other tests of this process may hold some.
            ours, *theirs = map(num_handles, processes)
            assert max(ours - before, *theirs) <= most_open + HANDLES_BESIDE_VIDEOS
            own_mib_at[step] = np.array([own_mib(process) for process in processes])
    assert step == NUM_STEPS
    warm = [step for step in own_mib_at if step >= NUM_STEPS // 3]
    slopes = np.polyfit([step * 20 / 1000 for step in warm], np.stack([own_mib_at[step] for step in warm]), 1)[0]
    assert (slopes < MOST_GROWTH_MIB_PER_1000_VIDEOS).all(), own_mib_at


def test_workers_get_tables_and_features_by_handle_and_see_the_same_memory(many_videos, make_config):
    with h5py.File(many_videos / "gvf.h5", "w") as file:
        file["v0"] = np.zeros(512, np.float32)
        for number in range(1, NUM_VIDEOS):
            file[f"v{number}"] = file["v0"]  # a link
    config = dataclasses.replace(
        make_config(many_videos, gvf="max", workers=1), clips=ClipConfig(length_frames=4, per_segment=1, **SMALL)
    )
    loader = build_loader(config, "train", batch=4)
    # 20 MB of features and a megabyte of annotations.
    assert len(ForkingPickler.dumps(loader.dataset)) < 8_000
    batches = iter(loader)
    assert not next(batches).gvf.any()
    loader.dataset.gvf[:] = 7
    loader.dataset.segments.labels[:] = 5
    later = [next(batches) for _ in range(6)][-1]
    assert (later.gvf == 7).all()
    assert (later.targets == 5).all()
    loader.dataset.segments.labels[:] = 0


def test_what_a_worker_is_sent_of_the_largest_published_table_is_small_and_quick(shared_dir, make_config, tmp_path):
    table, heads = published(shared_dir, "activitynet train")
    config = make_config(tmp_path)
    subset = SubsetConfig(csv=str(table), videos=".", gvf=None)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=subset),
        model=dataclasses.replace(
            config.model, heads=tuple(HeadConfig(label_column=column, labels=str(path)) for column, path in heads)
        ),
    )
    dataset = build_loader(config, "train", batch=32).dataset
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        assert len(ForkingPickler.dumps(dataset)) < 8_000
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.05
