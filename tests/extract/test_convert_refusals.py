"""What 'features convert' refuses, and how it names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.extract.values import VALUES, Make, with_change
from tests.jobs import do_job
from tsp.errors import ConfigError, DataError, StoreError

REFUSED: dict[str, tuple[Any, str]] = {
    "NaN at the end": (with_change(lambda array: array.__setitem__((-1, -1), np.nan)), "'v' hold NaN or infinite"),
    "infinite": (with_change(lambda array: array.__setitem__((18, 3), -np.inf)), "'v' hold NaN or infinite"),
    "too large for float32": (
        with_change(lambda array: array.__setitem__(0, 1e300), "<f8"),
        "'v' hold NaN or infinite",
    ),
    "no rows": (np.zeros((0, 16), np.float32), r"'v' has shape \[0, 16\]"),
    "a vector": (np.zeros(16, np.float32), r"'v' has shape \[16\].*one vector per video"),
    "three dimensions": (np.zeros((2, 3, 16), np.float32), r"'v' has shape \[2, 3, 16\]"),
    "a number": (np.float32(3), r"'v' has shape \[\]"),
    "complex": (np.zeros((2, 16), np.complex64), "'v'|v.npy"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("form", ["h5", "npy"])
@pytest.mark.parametrize("dest", ["out.h5", "out"])
def test_what_no_localisation_code_could_use_is_refused_by_name(
    tmp_path: Path, kind: str, form: str, dest: str
) -> None:
    array, message = REFUSED[kind]
    source = tmp_path / "in.h5"
    if form == "h5":
        with h5py.File(source, "w") as file:
            file["v"] = array
    else:
        source = tmp_path / "in"
        source.mkdir()
        np.save(source / "v.npy", array)
    with np.errstate(over="ignore"), pytest.raises(DataError, match=message):
        do_job("features", {"source": str(source), "dest": str(tmp_path / dest)})
    assert not (tmp_path / "out.h5").exists()
    assert not (tmp_path / "out/v.npy").exists()


@pytest.mark.parametrize("form", ["h5", "npy"])
@pytest.mark.parametrize("dest", ["out.h5", "out"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 8), r"features of 'a' have 16 numbers, those of 'z' have 8"), ((16,), r"'z' has shape \[16\]"),
     ((0, 16), r"'z' has shape \[0, 16\]")],
)  # fmt: skip
def test_where_the_last_video_cannot_be_of_the_set_none_is_written(
    tmp_path: Path, form: str, dest: str, shape: tuple[int, ...], message: str
) -> None:
    arrays = {name: VALUES for name in "abcdef"} | {"z": np.ones(shape, np.float32)}
    source = tmp_path / ("in.h5" if form == "h5" else "in")
    if form == "h5":
        with h5py.File(source, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        source.mkdir()
        for name, array in arrays.items():
            np.save(source / f"{name}.npy", array)
    with pytest.raises(DataError, match=message):
        do_job("features", {"source": str(source), "dest": str(tmp_path / dest)})
    assert [path.name for path in tmp_path.rglob("*") if not path.is_relative_to(source) and path.is_file()] == []


def _pickled(path: Path) -> None:
    np.save(path, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)


def _lying(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 512)})
        file.write(b"little")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_pickled, r"v\.npy"),
        (_lying, r"v\.npy is truncated"),
        (lambda path: (np.save(path, VALUES), path.write_bytes(path.read_bytes()[:-1])), r"v\.npy is truncated"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), r"v\.npy is not a \.npy file"),
        (lambda path: np.save(path, np.array([["a", "b"]])), r"v\.npy"),
        (lambda path: np.save(path, np.zeros((3, 2), [("a", "<f4")])), r"v\.npy"),
    ],
)
def test_files_that_hold_no_numbers_or_fewer_than_they_say_are_named(tmp_path: Path, make: Make, message: str) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in/v.npy")
    for dest in ("out.h5", "out"):
        with pytest.raises(DataError, match=message):
            do_job("features", {"source": str(tmp_path / "in"), "dest": str(tmp_path / dest)})


def test_a_folder_that_holds_files_of_another_set_is_left_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["v"] = VALUES
    job = {"source": str(tmp_path / "in.h5"), "dest": str(tmp_path / "out")}
    do_job("features", job)
    do_job("features", job)
    np.save(tmp_path / "out/w.npy", VALUES)
    with pytest.raises(ConfigError, match=r"out/w\.npy does not come from .*in\.h5: choose another DEST"):
        do_job("features", job)
    with pytest.raises(ConfigError, match=r"out contains features of 'v', unlike .*in\.h5"):
        do_job("features", {**job, "prefix": "v_x"})


def test_neither_the_source_nor_another_set_is_written_over(tmp_path: Path) -> None:
    for name, video in (("in.h5", "v"), ("other.h5", "w")):
        with h5py.File(tmp_path / name, "w") as file:
            file[video] = VALUES
    (tmp_path / "link.h5").symlink_to(tmp_path / "in.h5")
    before = (tmp_path / "in.h5").read_bytes(), (tmp_path / "other.h5").read_bytes()
    for dest, message in (
        ("x/../in.h5", "SOURCE and DEST are both"),
        ("link.h5", "SOURCE and DEST are both"),
        ("other.h5", r"other\.h5 contains features of 'w', unlike .*in\.h5: choose another DEST"),
    ):
        with pytest.raises(ConfigError, match=message):
            do_job("features", {"source": str(tmp_path / "in.h5"), "dest": str(tmp_path / dest)})
    assert ((tmp_path / "in.h5").read_bytes(), (tmp_path / "other.h5").read_bytes()) == before


@pytest.mark.parametrize(("change", "what"), [({"stride_frames": 1}, "stride, 16"), ({"rate_fps": 30}, "rate, 15")])
def test_features_made_in_another_manner_are_not_written_over(
    tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    for name, changes in (("a", {}), ("b", change)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["v"] = VALUES
        made = {"stride_frames": 16, "rate_fps": 15, "videos": {"v": {"features": len(VALUES)}}, **changes}
        (tmp_path / f"{name}.h5.json").write_text(json.dumps(made))
    for dest in ("out", "out.h5"):
        do_job("features", {"source": str(tmp_path / "a.h5"), "dest": str(tmp_path / dest)})
        with pytest.raises(ConfigError, match=f"{dest} contains features of another {what}: choose another DEST"):
            do_job("features", {"source": str(tmp_path / "b.h5"), "dest": str(tmp_path / dest)})


def test_an_output_whose_name_is_of_the_other_format_or_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["v"] = VALUES
    for dest, form, message in (
        ("out", "h5", "out is to be an H5 file: give a DEST that ends in .h5"),
        ("out.h5", "npy", "out.h5 is to be a folder of .npy files: give a DEST that does not end in .h5"),
    ):
        with pytest.raises(ConfigError, match=message):
            do_job("features", {"source": str(tmp_path / "in.h5"), "dest": str(tmp_path / dest), "format": form})
    if Path("/proc").is_dir():
        with pytest.raises(StoreError, match=r"cannot use /proc/out\.h5: /proc is where the path ends"):
            do_job("features", {"source": str(tmp_path / "in.h5"), "dest": "/proc/out.h5"})


def test_files_in_folders_of_their_own_are_named(tmp_path: Path) -> None:
    (tmp_path / "in/test").mkdir(parents=True)
    np.save(tmp_path / "in/test/v.npy", VALUES)
    with pytest.raises(DataError, match=r"test/v\.npy is in a subfolder"):
        do_job("features", {"source": str(tmp_path / "in")})
