"""The PyAV that videos are opened with is the one that everything here was tested with."""

import tomllib
from pathlib import Path

import av
import pytest
from packaging.requirements import Requirement

from tests.videos import write_video
from tsp.data.video import ClipReader
from tsp.data.video.inspect import inspect_video
from tsp.data.video.open_input import AV_MAJOR
from tsp.data.video.transcode import transcode
from tsp.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("version", ["17.1.0", "19.0.2", "100.0.0rc1"])
def test_another_major_version_of_pyav_is_refused_with_the_cure_and_is_no_bad_video(tmp_path, monkeypatch, version):
    path = write_video(tmp_path / "in.mp4")
    monkeypatch.setattr(av, "__version__", version)
    for read in (
        lambda: ClipReader().read(path, 0.0),
        lambda: inspect_video(path),
        lambda: transcode(path, path.with_name("out.mp4")),
    ):
        with pytest.raises(ConfigError, match=f"PyAV {version} is installed.*install 'av=={AV_MAJOR}"):
            read()


def test_the_wheel_asks_for_the_pyav_that_was_tested():
    train = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    (wanted,) = (Requirement(text) for text in train if Requirement(text).name == "av")
    assert wanted.specifier.contains(av.__version__)
    assert not wanted.specifier.contains(f"{AV_MAJOR + 1}.0.0")
    assert not wanted.specifier.contains(f"{AV_MAJOR - 1}.99.0")
