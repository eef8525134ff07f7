"""THUMOS14 in miniature: what its authors publish, and videos under its names, from a demo data set."""

from __future__ import annotations

import shutil
from pathlib import Path

FILES = {
    "demo_train_tsp_groundtruth.csv": "thumos14_valid_tsp_groundtruth.csv",
    "demo_valid_tsp_groundtruth.csv": "thumos14_test_tsp_groundtruth.csv",
    "demo_action_label_mapping.json": "thumos14_action_label_mapping.json",
    "demo_temporal_region_label_mapping.json": "thumos14_temporal_region_label_mapping.json",
}
VIDEOS = {"train": "valid", "valid": "test"}
"""The demo's subset -> THUMOS14's, which is trained on its validation videos and validated on its test videos."""


def copy_published(demo: Path, dest: Path, *, gvf: str) -> None:
    """Tables, label maps, and GVF for the tiny encoder under the name ``gvf``."""
    dest.mkdir(parents=True)
    for name, published in FILES.items():
        shutil.copy(demo / name, dest / published)
    shutil.copy(demo / "tiny-max_gvf.h5", dest / gvf)


def copy_videos(demo: Path, dest: Path) -> None:
    """The videos, in folders ``valid`` and ``test``."""
    for subset, published in VIDEOS.items():
        shutil.copytree(demo / subset, dest / published)
