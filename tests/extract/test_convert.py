"""Features in every layout that H5 and .npy files come in, held against h5py's and numpy's own reading of them."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.extract.values import VALUES, Make, assert_same, read_h5, read_npy, with_change
from tests.jobs import do_job
from tsp.data.features import FeatureFile
from tsp.errors import DataError
from tsp.extract import convert, raw_floats
from tsp.extract.feature_sources import NpyFolder
from tsp.store.local import LocalStore

H5_LAYOUTS: dict[str, Make] = {
    "contiguous": lambda file: file.create_dataset("v", data=VALUES),
    "chunked": lambda file: file.create_dataset("v", data=VALUES, chunks=(10, 5)),
    "gzip": lambda file: file.create_dataset("v", data=VALUES, chunks=(10, 5), compression="gzip"),
    "gzip, one chunk": lambda file: file.create_dataset("v", data=VALUES, chunks=VALUES.shape, compression="gzip"),
    "gzip, scattered": lambda file: _interleaved(file),
    "gzip, some chunks not": lambda file: _partly_deflated(file),
    "gzip, shuffled": lambda file: file.create_dataset("v", data=VALUES, compression="gzip", shuffle=True),
    "gzip, shuffled, some chunks not": lambda file: _partly_filtered(file),
    "gzip twice": lambda file: _deflated_twice(file),
    "gzip, checked": lambda file: file.create_dataset("v", data=VALUES, compression="gzip", fletcher32=True),
    "lzf": lambda file: file.create_dataset("v", data=VALUES, compression="lzf"),
    "resizable": lambda file: file.create_dataset("v", data=VALUES, maxshape=(None, 16)),
    "float16": lambda file: file.create_dataset("v", data=VALUES.astype("<f2")),
    "float64": lambda file: file.create_dataset("v", data=VALUES.astype("<f8")),
    "big-endian": lambda file: file.create_dataset("v", data=VALUES.astype(">f4")),
    "integers": lambda file: file.create_dataset("v", data=(10 * VALUES).astype("<i4")),
    "never written": lambda file: file.create_dataset("v", (37, 16), "<f4"),
    "half written": lambda file: file.create_dataset("v", (37, 16), "<f4", chunks=(10, 16)).__setitem__(slice(10), 1),
    "linked": lambda file: (file.create_dataset("v", data=VALUES), file.__setitem__("w", h5py.SoftLink("/v"))),
    "linked hard": lambda file: (file.create_dataset("v", data=VALUES), file.__setitem__("w", file["v"])),
    "with unusual names": lambda file: [file.create_dataset(name, data=VALUES) for name in ("é ü", "a b.mp4", "視頻")],
}


def _interleaved(file: Any) -> None:
    """Two videos whose chunks were written in turns, with much in between."""
    entries = [file.create_dataset(name, VALUES.shape, "<f4", chunks=(10, 16), compression="gzip") for name in "vw"]
    for start in range(30, -1, -10):
        for entry in entries:
            entry[start : start + 10] = VALUES[start : start + 10]
        file.create_dataset(f"x-{start}", data=np.ones((999, 16), np.float32))


def _partly_deflated(file: Any) -> None:
    """HDF5 leaves the filter of a chunk out where it fails, and marks it."""
    entry = file.create_dataset("v", VALUES.shape, "<f4", chunks=(10, 16), compression="gzip")
    entry[...] = VALUES
    entry.id.write_direct_chunk((10, 0), VALUES[10:20].tobytes(), filter_mask=1)


def _partly_filtered(file: Any) -> None:
    """A chunk each without the first filter, the second, both."""
    entry = file.create_dataset("v", VALUES.shape, "<f4", chunks=(10, 16), compression="gzip", shuffle=True)
    entry[...] = VALUES
    shuffled = VALUES[10:20].view(np.uint8).reshape(-1, 4).T.tobytes()
    entry.id.write_direct_chunk((0, 0), zlib.compress(VALUES[:10].tobytes()), filter_mask=0b01)
    entry.id.write_direct_chunk((10, 0), shuffled, filter_mask=0b10)
    entry.id.write_direct_chunk((20, 0), VALUES[20:30].tobytes(), filter_mask=0b11)


def _deflated_twice(file: Any) -> None:
    """A pipeline of filters that only HDF5 itself reads."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((10, 16))
    how.set_deflate(1)
    how.set_deflate(1)
    h5py.h5d.create(file.id, b"v", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(VALUES.shape), how)
    file["v"][...] = VALUES


NPY_LAYOUTS: dict[str, Make] = {
    "C order": lambda path: np.save(path, VALUES),
    "Fortran order": lambda path: np.save(path, np.asfortranarray(VALUES)),
    "float16": lambda path: np.save(path, VALUES.astype("<f2")),
    "float64": lambda path: np.save(path, VALUES.astype("<f8")),
    "big-endian": lambda path: np.save(path, VALUES.astype(">f4")),
    "integers": lambda path: np.save(path, (10 * VALUES).astype("<i2")),
    "version 2": lambda path: _save_as(path, (2, 0)),
    "version 3": lambda path: _save_as(path, (3, 0)),
    "longer than it says": lambda path: (np.save(path, VALUES), path.open("ab").write(b"more")),
}


def _save_as(path: Path, version: tuple[int, int]) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, VALUES, version=version)


def both_ways(source: Path, expected: dict[str, np.ndarray], folder: Path) -> None:
    h5, files = folder / f"from-{source.stem}.h5", folder / f"from-{source.stem}"
    for dest in (h5, files):
        do_job("features", {"source": str(source), "dest": str(dest)})
    assert_same(read_h5(h5), expected)
    assert_same(read_npy(files), expected)


@pytest.mark.parametrize("layout", H5_LAYOUTS)
def test_every_layout_of_an_h5_is_read_as_h5py_reads_it(tmp_path: Path, layout: str) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        H5_LAYOUTS[layout](file)
    expected = {name: array.astype(np.float32) for name, array in read_h5(tmp_path / "in.h5").items()}
    both_ways(tmp_path / "in.h5", expected, tmp_path)


def test_an_h5_behind_a_user_block_and_values_in_files_of_their_own_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w", userblock_size=1024) as file:
        file.create_dataset("v", data=VALUES)
    both_ways(tmp_path / "in.h5", {"v": VALUES}, tmp_path)
    raw = tmp_path / "values.raw"
    raw.write_bytes(VALUES.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("v", VALUES.shape, "<f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
        file["w"] = h5py.ExternalLink("in.h5", "/v")
    both_ways(tmp_path / "external.h5", {"v": VALUES, "w": VALUES}, tmp_path)
    layout = h5py.VirtualLayout(VALUES.shape, "<f4")
    layout[:] = h5py.VirtualSource("in.h5", "v", VALUES.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    both_ways(tmp_path / "virtual.h5", {"v": VALUES}, tmp_path)


@pytest.mark.parametrize("layout", NPY_LAYOUTS)
def test_every_layout_of_a_npy_is_read_as_numpy_reads_it(tmp_path: Path, layout: str) -> None:
    (tmp_path / "in").mkdir()
    NPY_LAYOUTS[layout](tmp_path / "in/v.npy")
    expected = {"v": np.load(tmp_path / "in/v.npy").astype(np.float32)}
    both_ways(tmp_path / "in", expected, tmp_path)


def files_of_every_layout(folder: Path) -> Iterator[tuple[str, FeatureFile]]:
    for layout, make in H5_LAYOUTS.items():
        with h5py.File(folder / "in.h5", "w") as file:
            make(file)
        with FeatureFile(folder / "in.h5", where="in.h5") as found:
            yield layout, found


def test_plain_values_are_copied_without_an_array_and_all_others_are_not(tmp_path: Path) -> None:
    """Else the quick way would not be what the other tests try."""
    plain = {"contiguous", "linked", "linked hard", "with unusual names"}
    for layout, found in files_of_every_layout(tmp_path):
        assert (found.raw_offset(found.names[0]) is not None) is (layout in plain), layout
    for number, make in enumerate(NPY_LAYOUTS.values()):
        make(tmp_path / f"{number}.npy")
    folder = NpyFolder(LocalStore(tmp_path))
    is_raw = [folder.raw(str(number)) is not None for number in range(len(NPY_LAYOUTS))]
    assert [layout for layout, raw in zip(NPY_LAYOUTS, is_raw, strict=True) if raw] == [
        "C order", "version 2", "version 3", "longer than it says"
    ]  # fmt: skip


def test_deflated_chunks_are_inflated_here_and_all_others_by_hdf5(tmp_path: Path) -> None:
    """Else the quick way would not be what the other tests try."""
    in_bands = {"gzip", "gzip, scattered", "gzip, some chunks not", "gzip, shuffled, some chunks not"}
    for layout, found in files_of_every_layout(tmp_path):
        num_blocks = len(list(found.blocks(found.names[0])))
        assert num_blocks == (4 if layout in in_bands else 1), layout


def _flipped(stored: bytes) -> bytes:
    return stored[:200] + bytes(byte ^ 0xFF for byte in stored[200:210]) + stored[210:]


DAMAGED_CHUNKS: dict[str, Callable[[bytes], bytes]] = {
    "a byte flipped": _flipped,
    "cut": lambda stored: stored[:-9],
    "without its sum": lambda stored: stored[:-4] + bytes(4),
    "empty stream": lambda stored: zlib.compress(b""),
    "a value less": lambda stored: zlib.compress(zlib.decompress(stored)[:-4]),
    "a value more": lambda stored: zlib.compress(zlib.decompress(stored) + bytes(4)),
    "no stream": lambda stored: b"\x00" * len(stored),
}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", DAMAGED_CHUNKS)
def test_a_damaged_chunk_is_named_and_nothing_is_written(tmp_path: Path, kind: str, shuffle: bool) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("u", data=VALUES, chunks=(10, 8), compression="gzip", shuffle=shuffle)
        entry = file.create_dataset("v", data=VALUES, chunks=(10, 8), compression="gzip", shuffle=shuffle)
        stored = entry.id.read_direct_chunk((20, 8))[1]
        entry.id.write_direct_chunk((20, 8), DAMAGED_CHUNKS[kind](stored))
    for dest in ("out.h5", "out"):
        with pytest.raises(DataError, match=r"'v' cannot be read: the chunk at \[20, 8\] is damaged: it"):
            do_job("features", {"source": str(tmp_path / "in.h5"), "dest": str(tmp_path / dest)})
        assert not (tmp_path / "out.h5").exists()
        assert not (tmp_path / "out/v.npy").exists()


def test_videos_of_many_blocks_are_whole_and_checked_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_floats, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(raw_floats, "_mine", raw_floats.threading.local())
    (tmp_path / "in").mkdir()
    arrays = {f"v{number}": VALUES + number for number in range(20)}
    for name, array in arrays.items():
        np.save(tmp_path / f"in/{name}.npy", array)
    both_ways(tmp_path / "in", arrays, tmp_path)
    np.save(tmp_path / "in/v9.npy", with_change(lambda array: array.__setitem__((-1, -1), np.inf)))
    with pytest.raises(DataError, match="'v9' hold NaN"):
        do_job("features", {"source": str(tmp_path / "in"), "dest": str(tmp_path / "again")})


def test_one_step_is_the_middle_of_a_video_and_a_video_of_one_step_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/long.npy", VALUES)
    np.save(tmp_path / "in/one.npy", VALUES[:1])
    do_job("features", {"source": str(tmp_path / "in"), "dest": str(tmp_path / "out"), "resize": 1})
    found = read_npy(tmp_path / "out")
    np.testing.assert_array_equal(found["long"], VALUES[18:19])
    do_job("features", {"source": str(tmp_path / "in"), "dest": str(tmp_path / "more"), "resize": 3})
    np.testing.assert_array_equal(read_npy(tmp_path / "more")["one"], np.repeat(VALUES[:1], 3, axis=0))


def described(folder: Path, **changes: Any) -> Path:
    """A folder of two videos, and what its description says of them."""
    folder.mkdir()
    for name in ("v_a", "v_b"):
        np.save(folder / f"{name}.npy", VALUES)
    videos = {"a": {"features": 37}, "b": {"features": 37}}
    said = {"rate_fps": 15.0, "stride_frames": 16, "clip_frames": 16, "dimension": 16, "prefix": "v_", "videos": videos}
    (folder / "features.json").write_text(json.dumps({**said, **changes}))
    return folder


@pytest.mark.parametrize(
    ("videos", "said"),
    [
        ({"a": {"features": 37}}, "1 video is not in its description: v_b"),
        ({"a": {"features": 37}, "b": {"features": 12}}, "1 video is described with another number of features: v_b"),
        ({name: {"features": 37} for name in "abc"}, "1 video is missing that its description lists: v_c"),
        ({"a": {"features": 37}, "b": {"features": 37}}, None),
        ({}, None),
    ],
)
def test_a_description_of_other_features_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, videos: dict[str, Any], said: str | None
) -> None:
    source = described(tmp_path / "in", videos=videos)
    for more in ({}, {"dest": str(tmp_path / "out.h5")}):
        caplog.clear()
        do_job("features", {"source": str(source), **more})
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == (said is not None)
        assert said is None or re.search(said, warnings[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_fps": "fifteen"}, "rate_fps is 'fifteen'"),
        ({"stride_frames": 0}, "stride_frames is 0"),
        ({"clip_frames": -16}, "clip_frames is -16"),
        ({"dimension": [16]}, r"dimension is \[16\]"),
        ({"rate_fps": float("nan")}, "rate_fps is nan"),
        ({"videos": {"a": {"features": "many"}}}, "features of a is 'many'"),
        ({"videos": {"a": None}}, "is not a description of features"),
        ({"videos": []}, "is not a description of features"),
        ({"prefix": 3}, "prefix is 3"),
        ({"missing": 7}, "is not a description of features"),
    ],
)
def test_a_description_that_makes_no_sense_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = described(tmp_path / "in", **changes)
    with pytest.raises(DataError, match=f"features.json.*{message}"):
        do_job("features", {"source": str(source)})


@pytest.mark.parametrize(
    ("cpus", "addresses", "threads"),
    [
        (1, ("/a", "/b"), 2),
        (3, ("/a", "file:///b"), 4),
        (1, ("/a", "s3://b/c"), convert.REQUESTS_AT_A_TIME),
        (1, ("s3://b/c", "/a"), convert.REQUESTS_AT_A_TIME),
        (64, ("s3://b/c",), 65),
    ],
)
def test_as_many_videos_are_converted_at_a_time_as_keep_cpus_and_network_busy(monkeypatch, cpus, addresses, threads):
    monkeypatch.setattr(convert, "usable_cpus", lambda: cpus)
    assert convert.num_threads(*addresses) == threads
