"""Small videos and data sets for the tests of the data tools."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tsp.config.jobs import DemoJob
from tsp.data.video.encode import write_video
from tsp.prepare.demo import draw_demo


def grey_frames(num_frames: int, *, height: int = 48, width: int = 64) -> Iterator[np.ndarray]:
    """Frames whose brightness rises by two levels each."""
    for index in range(num_frames):
        yield np.full((height, width, 3), (2 * index) % 250, np.uint8)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo data set of four training and three validation videos; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    draw_demo(folder, DemoJob(dest=str(folder), num_train_videos=4, num_valid_videos=3), workers=1)
    return folder


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small grey video of so many frames into the test's folder."""

    def make(name: str, num_frames: int = 45, *, fps: int = 30, **size: int) -> Path:
        path = tmp_path / name
        write_video(path, grey_frames(num_frames, **size), fps=fps)
        return path

    return make
