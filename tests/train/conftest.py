"""A data set of seconds and a configuration that trains it in seconds."""

import json
import multiprocessing
import multiprocessing.forkserver
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.train.worlds import COLUMNS, FPS, LABELS, config_for, segments_of, train_here, write_clip_video


@pytest.fixture(scope="session")
def tiny_data(make_once) -> Path:
    """Two videos of a texture per class in each subset, with tables, label maps and GVF."""
    return make_once("tiny-data", _write_tiny_data)


def _write_tiny_data(root: Path) -> None:
    for name, labels in LABELS.items():
        (root / f"{name}.json").write_text(json.dumps(labels))
    with h5py.File(root / "gvf.h5", "w") as gvf:
        for subset in ("train", "valid"):
            (root / subset).mkdir()
            rows = []
            for index in range(2):
                name = f"{subset}_{index}"
                segments = segments_of(index)
                num_frames = write_clip_video(root / subset / f"{name}.mp4", segments, seed=index)
                gvf[name] = np.full(512, index / 4, np.float32)
                duration = num_frames / FPS
                for start, end, action, region in segments:
                    rows.append((name, start, end, action, duration, f"{name}.mp4", FPS, num_frames, region))
            lines = [",".join(COLUMNS), *(",".join(map(str, row)) for row in rows)]
            (root / f"{subset}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Runs in this process are held against runs in others, to the bit: sums must be taken in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _processes_start_quickly():
    """Ranks and data workers of these tests are forked from one server that has done the imports (tests.conftest)."""
    multiprocessing.forkserver.ensure_running()


@pytest.fixture(scope="session")
def uninterrupted(tiny_data, tmp_path_factory):
    """A finished run, which tests only read."""
    return train_here(config_for(tiny_data, tmp_path_factory.mktemp("store")))
