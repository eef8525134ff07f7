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


def test_files_of_other_formats_in_a_folder_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/v.npy", VALUES)
    for name in ("w.NPY", "x.npz", "y.pkl", "features.json.old", ".hidden.npz", "missing_files.txt"):
        (tmp_path / "in" / name).write_bytes(b"x")
    assert do_job("features", {"source": str(tmp_path / "in"), "dest": str(tmp_path / "out")})["videos"] == 1
    assert "4 files left out (not .npy): features.json.old, w.NPY, x.npz, y.pkl" in caplog.text


@pytest.mark.parametrize(
    ("target", "message"),
    [("nowhere/w.npy", r"w\.npy is a broken link \(to .*restore or remove it"), ("far", "is a folder of .npy files")],
)
def test_linked_features_that_are_not_there_are_not_left_out_silently(
    tmp_path: Path, target: str, message: str
) -> None:
    for folder in ("in", "far"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "v.npy", VALUES)
    link = tmp_path / "in" / (target.rpartition("/")[2])
    link.symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=message):
        do_job("features", {"source": str(tmp_path / "in")})


@pytest.mark.parametrize("name", ["a.H5", "a.hdf", "a.npz", "a.npy"])
def test_a_file_of_another_name_is_told_how_features_are_given(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DataError, match=rf"{name} is a file: give a folder .* ends in \.h5 or \.hdf5"):
        do_job("features", {"source": str(tmp_path / name)})


@pytest.mark.parametrize("dest", ["out", None])
def test_pickled_objects_are_refused_whatever_is_asked(tmp_path: Path, dest: str | None) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/v.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"v\.npy contains Python objects \(a pickle\).*plain array"):
        do_job("features", {"source": str(tmp_path / "in"), "dest": dest and str(tmp_path / dest)})


@pytest.mark.parametrize("form", ["h5", "npy"])
@pytest.mark.parametrize("lengths", [(5, 6), (7, 7)])
def test_features_stored_columns_first_are_suspected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str, lengths: tuple[int, int]
) -> None:
    source = tmp_path / ("in.h5" if form == "h5" else "in")
    arrays = {name: np.ones((16, length), np.float32) for name, length in zip("vw", lengths, strict=True)}
    if form == "h5":
        with h5py.File(source, "w") as file:
            file.update(arrays)
    else:
        source.mkdir()
        for name, array in arrays.items():
            np.save(source / f"{name}.npy", array)
    job = {"source": str(source), "dest": str(tmp_path / "out")}
    if lengths[0] == lengths[1]:
        do_job("features", job)
        assert "all 2 videos have 16 features of 7 numbers" in caplog.text
        caplog.clear()
        do_job("features", {"source": str(source)})
        assert "transpose" in caplog.text
    else:
        with pytest.raises(DataError, match=r"have 5 numbers, .* have 6: are they stored as \[dimension, T\]"):
            do_job("features", job)


@pytest.mark.parametrize(("length", "resized"), [(100, None), (3, 3), (20, 20)])
def test_sets_of_equal_lengths_that_make_sense_are_not_suspected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int, resized: int | None
) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.update({name: np.ones((length, 16 if resized else 400), np.float32) for name in "vw"})
    do_job("features", {"source": str(tmp_path / "in.h5"), "dest": str(tmp_path / "out"), "resize": resized})
    do_job("features", {"source": str(tmp_path / "out")})
    assert "transpose" not in caplog.text


def test_an_array_without_values_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["v"] = h5py.Empty("f4")
    with pytest.raises(DataError, match="'v' is empty, without any values"):
        do_job("features", {"source": str(tmp_path / "in.h5")})
