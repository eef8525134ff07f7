"""Features in the form that the next code reads: a file a video, other forms, and what they say of themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.extract.conftest import SmallSet, write_metadata
from tests.extract.values import assert_same, read_h5, read_npy
from tests.jobs import do_job
from tests.s3_servers import S3Server
from tsp.errors import ConfigError, DataError
from tsp.extract.convert import resized
from tsp.run.feature_set import FeatureSet, file_stem
from tsp.store.base import sha256_of


def write_h5(path: Path, arrays: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")
    return path


def test_files_hold_the_features_of_the_h5_and_say_how_they_were_made(small_set: SmallSet) -> None:
    write_metadata(small_set.root / "metadata.csv", {**small_set.num_frames, "gone.mp4": 90})
    together = do_job("extract", small_set.job(broken_videos="skip", short_videos="skip"))
    out = small_set.root / "out" / "files"
    answer = do_job(
        "extract",
        small_set.job(broken_videos="skip", short_videos="skip", out=str(out), format="npy", prefix="v_"),
    )
    assert (answer["out"], answer["videos"]) == (str(out), 3)
    assert_same(read_npy(out), {f"v_{name}": array for name, array in read_h5(together["out"]).items()})
    assert (out / "missing_files.txt").read_text().splitlines() == ["short", "gone"]
    said = json.loads((out / "features.json").read_text())
    expected = {
        "rate_fps": 15.0, "stride_frames": 16, "clip_frames": 16, "offset_frames": 8, "dimension": 512,
        "encoder": "tiny", "checkpoint_sha256": sha256_of(small_set.root / "epoch_0.pth"), "prefix": "v_",
    }  # fmt: skip
    assert {key: said[key] for key in expected} == expected
    assert said["videos"]["long"] == {"features": 4, "frames": 130, "fps": 30.0, "duration_sec": 130 / 30}
    assert not Path(f"{out}.parts").exists()
    beside = json.loads(Path(f"{together['out']}.json").read_text())
    assert beside["videos"] == said["videos"]


def test_a_prefix_that_a_name_has_already_is_not_doubled(tmp_path: Path) -> None:
    assert [file_stem(name, "v_") for name in ("abc", "v_abc")] == ["v_abc", "v_abc"]
    source = write_h5(tmp_path / "a.h5", {"abc": np.ones((2, 512)), "v_abc": np.ones((2, 512))})
    with pytest.raises(DataError, match="abc and v_abc would have the same file"):
        do_job("features", {"source": str(source), "dest": str(tmp_path / "out"), "prefix": "v_"})


def test_an_interrupted_merge_into_files_is_finished_by_the_next(
    small_set: SmallSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsp.extract.video_parts import VideoParts

    job = small_set.job(out=str(small_set.root / "files"), format="npy")
    with monkeypatch.context() as patch:
        patch.setattr(VideoParts, "_close", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            do_job("extract", job)
    assert not (small_set.root / "files" / "features.json").exists()
    answer = do_job("extract", job)
    assert (answer["exit_code"], len(read_npy(answer["out"]))) == (0, 4)
    again = do_job("extract", job)
    assert (again["out"], "clips_extracted" in again) == (answer["out"], False)


def test_a_folder_that_holds_something_else_is_left_alone(small_set: SmallSet) -> None:
    (small_set.root / "files").mkdir()
    (small_set.root / "files" / "mine.npy").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="already exists and was not written by this command"):
        do_job("extract", small_set.job(out=str(small_set.root / "files"), format="npy"))


def test_files_and_h5_are_converted_into_each_other_unchanged(small_set: SmallSet) -> None:
    source = do_job("extract", small_set.job())["out"]
    root = small_set.root
    to_files = do_job("features", {"source": source, "dest": str(root / "files"), "prefix": "v_"})
    assert (to_files["format"], to_files["videos"], to_files["features"]) == ("npy", 4, 9)
    back = do_job("features", {"source": str(root / "files"), "dest": str(root / "back.h5")})
    assert back["format"] == "h5"
    assert_same(read_h5(root / "back.h5"), read_h5(source))
    ours, theirs = (
        FeatureSet.from_dict(json.loads(Path(f"{path}.json").read_text()), where=str(path))
        for path in (source, root / "back.h5")
    )
    assert ours == theirs


def test_a_published_file_is_described_by_what_it_holds(tmp_path: Path) -> None:
    source = write_h5(tmp_path / "tsp_features.h5", {"v_a": np.ones((3, 512)), "v_b": np.ones((5, 512))})
    said = do_job("features", {"source": str(source)})
    assert {key: said[key] for key in ("videos", "features", "fewest", "most", "dimension", "stride_frames")} == {
        "videos": 2, "features": 8, "fewest": 3, "most": 5, "dimension": 512, "stride_frames": None,
    }  # fmt: skip
    do_job("features", {"source": str(source), "dest": str(tmp_path / "files")})
    assert set(read_npy(tmp_path / "files")) == {"v_a", "v_b"}


@pytest.mark.parametrize(("length", "steps"), [(1, 100), (2, 5), (37, 100), (250, 100), (100, 100), (9, 1)])
def test_resizing_is_what_the_localisation_codes_do(length: int, steps: int) -> None:
    array = np.random.default_rng(length).normal(size=(length, 16)).astype(np.float32)
    theirs = functional.interpolate(torch.from_numpy(array.T.copy())[None], size=steps, mode="linear")[0].T.numpy()
    np.testing.assert_allclose(resized(array, steps), theirs, atol=1e-5)


def test_a_resized_set_says_so(tmp_path: Path) -> None:
    source = write_h5(tmp_path / "a.h5", {"a": np.ones((3, 512)), "b": np.ones((7, 512))})
    do_job("features", {"source": str(source), "dest": str(tmp_path / "out"), "resize": 100})
    assert {array.shape for array in read_npy(tmp_path / "out").values()} == {(100, 512)}
    assert do_job("features", {"source": str(tmp_path / "out")})["resized_to"] == 100


def _as_group(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("a")
    return path


def _as_dangling_link(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["a"] = h5py.SoftLink("/nowhere")
    return path


def _as_cut(path: Path) -> Path:
    write_h5(path, {"a": np.ones((30, 512))})
    path.write_bytes(path.read_bytes()[:300])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write_h5(path, {"a": np.ones(512)}), r"'a' has shape \[512\].*one vector per video"),
        (lambda path: write_h5(path, {"a": np.full((2, 512), np.nan)}), "'a' hold NaN or infinite"),
        (lambda path: write_h5(path, {}), "contains no features"),
        (_as_group, "'a' is a group"),
        (_as_dangling_link, "'a' is a link to .* whose target is missing"),
        (_as_cut, "cannot be read as H5"),
        (lambda path: path, "does not exist"),
    ],
)
def test_what_is_no_features_is_refused_by_name(tmp_path: Path, make: Any, message: str) -> None:
    path = make(tmp_path / "a.h5")
    with pytest.raises(DataError, match=message):
        do_job("features", {"source": str(path), "dest": str(tmp_path / "out")})


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_of_a_folder_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy"):
        do_job("features", {"source": str(tmp_path / "in")})


def test_a_set_is_not_written_over_itself(tmp_path: Path) -> None:
    source = write_h5(tmp_path / "a.h5", {"a": np.ones((3, 512))})
    with pytest.raises(ConfigError, match="choose another DEST"):
        do_job("features", {"source": str(source), "dest": str(source)})


def test_features_are_converted_where_they_lie_in_s3(s3_server: S3Server, tmp_path: Path) -> None:
    config = s3_server.config(f"converted/{tmp_path.name}")
    uri, settings = config.uri, asdict(config)
    source = write_h5(tmp_path / "a.h5", {"a": np.ones((3, 512)), "b": np.zeros((1, 512))})
    do_job("features", {"source": str(source), "dest": f"{uri}/files", "store": settings, "prefix": "v_"})
    do_job("features", {"source": f"{uri}/files", "dest": f"{uri}/back.h5", "store": settings})
    said = do_job("features", {"source": f"{uri}/back.h5", "store": settings})
    assert (said["videos"], said["features"]) == (2, 4)
    do_job("features", {"source": f"{uri}/back.h5", "dest": str(tmp_path / "here"), "store": settings})
    assert_same(read_npy(tmp_path / "here"), read_h5(source))


PEAK = """
import resource, sys
from tests.jobs import do_job
do_job("features", {"source": sys.argv[1], "dest": sys.argv[2]})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_videos(tmp_path: Path) -> None:
    array = np.zeros((2000, 512), np.float32)  # 4 MB

    def peak_kib(videos: int) -> int:
        source = write_h5(tmp_path / f"{videos}.h5", {f"v{index:03d}": array for index in range(videos)})
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(source), str(tmp_path / f"out{videos}")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout.split()[-1])

    few, many = peak_kib(20), peak_kib(76)
    # 56 more videos of 4 MB each: not even eight of them may stay.
    assert many - few < 8 * 4096
