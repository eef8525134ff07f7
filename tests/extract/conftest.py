"""A small data set of videos that say their frames' numbers, and a checkpoint of the tiny encoder."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import MakeOnce
from tests.videos import Made, write_video
from tsp.model.heads import HeadSpec, TspModel


@dataclass(frozen=True)
class SmallSet:
    """Where everything lies."""

    root: Path
    num_frames: dict[str, int]

    def job(self, **changes: Any) -> dict[str, Any]:
        """An extraction of it."""
        values: dict[str, Any] = {
            "checkpoint": str(self.root / "epoch_0.pth"),
            "videos": str(self.root / "videos"),
            "metadata": str(self.root / "metadata.csv"),
            "out": str(self.root / "out" / "features.h5"),
            "workers": 0,
            "batch": 5,
            **changes,
        }
        return values


def write_metadata(path: Path, num_frames: dict[str, int], fps: float = 30.0) -> Path:
    """A metadata table as ``tspctl data probe`` writes it."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "video-duration", "fps", "video-frames"])
        writer.writerows([name, frames / fps, fps, frames] for name, frames in num_frames.items())
    return path


@pytest.fixture(scope="session")
def tiny_model() -> TspModel:
    """A TAC model on the tiny encoder."""
    torch.manual_seed(3)
    return TspModel("tiny", [HeadSpec(label_column="action-label", num_classes=3)]).eval()


@pytest.fixture(scope="session")
def drawn_videos(make_once: MakeOnce) -> tuple[Path, dict[str, int]]:
    """A folder of videos of several sizes and lengths; one is shorter than a clip."""
    made = {
        "long.mp4": Made(num_frames=130, width=160, height=96, noise=6),
        "middle.mp4": Made(num_frames=75, width=320, height=180),
        "other.mp4": Made(num_frames=64, width=96, height=128),
        "short.mp4": Made(num_frames=20),
    }

    def draw(folder: Path) -> None:
        for name, how in made.items():
            write_video(folder / name, how)

    return make_once("videos-to-extract", draw), {name: how.num_frames for name, how in made.items()}


@pytest.fixture
def small_set(tmp_path: Path, drawn_videos: tuple[Path, dict[str, int]], tiny_model: TspModel) -> SmallSet:
    """The videos, their table and a checkpoint in the form of the original."""
    folder, num_frames = drawn_videos
    (tmp_path / "videos").mkdir()
    for name in num_frames:
        (tmp_path / "videos" / name).symlink_to(folder / name)
    write_metadata(tmp_path / "metadata.csv", num_frames)
    torch.save({"model": tiny_model.state_dict(), "epoch": 0}, tmp_path / "epoch_0.pth")
    return SmallSet(tmp_path, num_frames)
