"""A small data set: four videos of two sizes, twelve segments, two label maps, global features."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import MakeOnce
from tests.videos import Made, write_video
from tsp.config.jobs import CopyFormat
from tsp.config.run import DataConfig, HeadConfig, ModelConfig, RunConfig, SubsetConfig
from tsp.config.store import StoreConfig
from tsp.data.copy_name import training_copy_name
from tsp.data.video.training_copy import write_training_copy

HEADER = [
    *("video-name", "t-start", "t-end", "action-label", "video-duration"),
    *("filename", "fps", "video-frames", "temporal-region-label"),
]
NUM_VIDEOS, SEGMENTS_PER_VIDEO = 4, 3


def write_rows(path: Path, rows: list[list[Any]], header: list[str] = HEADER) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="session")
def dataset_dir(make_once: MakeOnce) -> Path:
    """videos/v0.mp4 ... v3.mp4 of 4 s, ``table.csv``, ``actions.json``, ``regions.json``, ``gvf.h5``."""
    return make_once("dataset", _write_dataset)


def _write_dataset(folder: Path) -> None:
    (folder / "videos").mkdir()
    rows = []
    for video in range(NUM_VIDEOS):
        size = {"width": 96, "height": 64} if video % 2 else {"width": 128, "height": 72}
        write_video(folder / "videos" / f"v{video}.mp4", Made(num_frames=120, **size))
        for segment in range(SEGMENTS_PER_VIDEO):
            start = 0.013 + 1.2 * segment
            label, region = (("jump", "Action"), ("run", "Action"), ("", "No action"))[segment]
            rows.append([f"v{video}", start, start + 1.2, label, 4.0, f"v{video}.mp4", 30.0, 120, region])
    write_rows(folder / "table.csv", rows)
    (folder / "actions.json").write_text(json.dumps(["jump", "run"]))
    (folder / "regions.json").write_text(json.dumps(["Action", "No action"]))
    with h5py.File(folder / "gvf.h5", "w") as file:
        for video in range(NUM_VIDEOS):
            file[f"v{video}"] = np.full(512, video, np.float32)


@pytest.fixture(scope="session")
def copies_dir(dataset_dir: Path, make_once: MakeOnce) -> Callable[[CopyFormat], Path]:
    """Gives the same data set with training copies of that format in place of its videos."""

    def make(copy_format: CopyFormat) -> Path:
        def copy(folder: Path) -> None:
            shutil.copytree(dataset_dir, folder, dirs_exist_ok=True)
            for video in (folder / "videos").glob("*.mp4"):
                target = video.parent / training_copy_name(video.name)
                assert write_training_copy(video, target, copy_format=copy_format) == 120
                video.unlink()

        return make_once(f"dataset-{copy_format}", copy)

    return make


@pytest.fixture
def make_config() -> Callable[..., RunConfig]:
    """A configuration over a data set's folder; keywords are those of DataConfig, or gvf and heads."""

    def make(root: Path | str, *, gvf: str = "none", store: StoreConfig | None = None, **data: Any) -> RunConfig:
        subset = SubsetConfig(csv="table.csv", videos=data.pop("videos", "videos"), gvf="gvf.h5")
        return RunConfig(
            name="test",
            method="tsp",
            data=DataConfig(name="test", root=str(root), train=subset, valid=subset, **{"workers": 0, **data}),
            model=ModelConfig(
                heads=(
                    HeadConfig(label_column="action-label", labels="actions.json"),
                    HeadConfig(label_column="temporal-region-label", labels="regions.json"),
                ),
                gvf=gvf,
            ),
            store=store or StoreConfig(uri="unused"),
        )

    return make
