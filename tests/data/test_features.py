"""Global video features out of H5 files."""

import os
import re
import resource
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.jobs import do_job
from tsp.data.features import FeatureFile, GvfFile, write_arrays
from tsp.errors import DataError, StoreError
from tsp.store.atomic import new_file


@pytest.fixture
def gvf(tmp_path):
    path = tmp_path / "gvf.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(512, dtype=np.float64)
        file["b"] = np.ones((1, 512), np.float32)
        file["frames"] = np.ones((7, 512), np.float32)
        file["nan"] = np.full(512, np.nan, np.float32)
    return GvfFile(path)


def test_vectors_come_in_the_order_asked_for_as_float32(gvf):
    features = gvf.load(["b", "a"])
    assert features.dtype == np.float32
    assert features[:, 3].tolist() == [1.0, 3.0]


def test_missing_videos_are_counted_and_the_first_is_named(gvf):
    with pytest.raises(DataError, match=r"gvf\.h5 has no feature for the video 'x' \(2 of 3 videos are missing\)"):
        gvf.load(["a", "x", "y"])


@pytest.mark.parametrize(("video", "message"), [("frames", r"shape \(7, 512\), expected \(512,\)"), ("nan", "NaN")])
def test_a_feature_that_is_no_finite_vector_is_refused(gvf, video, message):
    with pytest.raises(DataError, match=message):
        gvf.load([video])


def test_a_file_that_is_no_h5_is_named(tmp_path):
    (tmp_path / "x.h5").write_text("hello")
    with pytest.raises(DataError, match=r"x\.h5"):
        GvfFile(tmp_path / "x.h5").load(["a"])


def test_the_published_features_cover_the_published_table(shared_dir):
    features = GvfFile(shared_dir / "data" / "thumos14" / "r2plus1d_34-max_gvf.h5").load(["video_test_0000004"])
    assert features.shape == (1, 512)


def test_names_are_found_in_either_spelling_of_their_accents(tmp_path):
    with h5py.File(tmp_path / "gvf.h5", "w") as file:
        file[unicodedata.normalize("NFD", "é")] = np.ones(512, np.float32)
    assert GvfFile(tmp_path / "gvf.h5").load([unicodedata.normalize("NFC", "é")]).sum() == 512


def dangling(file):
    file["v"] = h5py.SoftLink("/nowhere")


def external(file):
    file["v"] = h5py.ExternalLink("gone.h5", "/v")


def circular(file):
    file["v"] = h5py.SoftLink("/v")


def words(file):
    file["v"] = ["hello"] * 512


def compound(file):
    file["v"] = np.zeros(512, [("a", "f4"), ("b", "f4")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dangling, "'v' is a link to /nowhere whose target is missing"),
        (external, r"'v' is a link to /v in gone\.h5 whose target is missing"),
        (circular, "'v' is a link to /v whose target is missing"),
        (words, "the features of 'v' cannot be read"),
        (compound, "the features of 'v' cannot be read"),
        (lambda file: file.create_group("v"), "'v' is a group"),
    ],
)
def test_an_entry_that_leads_nowhere_or_holds_no_numbers_is_named(tmp_path, make, message):
    path = tmp_path / "gvf.h5"
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(DataError, match=message) as caught:
        GvfFile(path).load(["v"])
    assert str(path) in str(caught.value)


def test_an_external_link_that_people_sent_is_named(shared_dir):
    path = shared_dir / "cases/video/h5-links/extlink_gone.h5"
    with h5py.File(path) as file:
        names = list(file)
    with pytest.raises(DataError, match=r"extlink_gone\.h5: .* is a link to .* whose target is missing"):
        GvfFile(path).load(names)


@pytest.mark.parametrize(("name", "why"), [("none.h5", "does not exist"), ("folder.h5", "is not a file")])
def test_what_is_no_file_is_told_from_what_is_not_there(tmp_path, name, why):
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(DataError, match=rf"{name} {why}"):
        GvfFile(tmp_path / name).load(["a"])


def test_a_file_of_other_names_shows_one_of_them(tmp_path):
    write_arrays(tmp_path / "gvf.h5", [(name, np.ones(512, np.float32)) for name in ("v_a", "v_b", "v_c")])
    with pytest.raises(DataError, match=r"1 of 1 video is missing; its entries begin with 'v_a'"):
        GvfFile(tmp_path / "gvf.h5").load(["a"])


def test_of_two_names_that_differ_in_unicode_form_the_exact_one_counts(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    arrays = [(composed, np.ones(512, np.float32)), (decomposed, np.zeros(512, np.float32))]
    write_arrays(tmp_path / "gvf.h5", arrays)
    assert GvfFile(tmp_path / "gvf.h5").load([composed, decomposed]).sum(1).tolist() == [512, 0]


@pytest.mark.parametrize(("has_shuffle", "mask"), [*((True, mask) for mask in range(4)), (False, 0), (False, 1)])
def test_chunks_are_read_whichever_of_their_filters_were_left_out(tmp_path, has_shuffle, mask):
    """A set bit of a chunk's mask: the filter of that number was not applied. h5py itself says what is in the file."""
    values = np.arange(24, dtype="<f4").reshape(6, 4)
    filters = ["shuffle", "deflate"] if has_shuffle else ["deflate"]
    data = values[:3].tobytes()
    for number, name in enumerate(filters):
        if not mask >> number & 1:
            turned = np.frombuffer(data, np.uint8).reshape(-1, 4).T.tobytes()
            data = turned if name == "shuffle" else zlib.compress(data)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        entry = file.create_dataset("v", (6, 4), "<f4", chunks=(3, 4), compression="gzip", shuffle=has_shuffle)
        entry[3:] = values[3:]
        entry.id.write_direct_chunk((0, 0), data, filter_mask=mask)
    with h5py.File(path) as file:
        assert np.array_equal(file["v"][:], values), "the test wrote another file than it meant to"
    with FeatureFile(path, where="a.h5") as features:
        assert np.array_equal(features.read("v"), values)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2", "<i4", "|u1"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_numbers_of_any_kind_are_read_as_float32(tmp_path, kind, compression):
    values = np.arange(12).reshape(3, 4).astype(kind)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("v", data=values, compression=compression)
    with FeatureFile(tmp_path / "a.h5", where="a.h5") as features:
        found = features.read("v")
    assert found.dtype == np.float32
    assert np.array_equal(found, values)


def test_values_that_lie_in_the_file_as_in_memory_are_found_there(tmp_path):
    values, path = np.arange(12, dtype="<f4").reshape(3, 4), tmp_path / "a.h5"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["v"] = values
    with h5py.File(path, "w") as file:
        file["v"] = values
        file["double"] = values.astype("<f8")
        file["linked"] = h5py.SoftLink("/v")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/v")
        file.create_dataset("packed", data=values, compression="gzip")
    with FeatureFile(path, where="a.h5") as features:
        for name in ("v", "linked"):
            offset = features.raw_offset(name)
            assert path.read_bytes()[offset : offset + values.nbytes] == values.tobytes()
        assert [features.raw_offset(name) for name in ("double", "elsewhere", "packed")] == [None] * 3


def error_in_a_child(work: Callable[[], object], size_bytes: int) -> str:
    """The StoreError of work in a process whose files may have so many bytes."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))
            work()
        except StoreError as error:
            # What HDF5 still holds open it would write at the end of the process, and crash.
            files = h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
            is_left = any(file.get_intent() & h5py.h5f.ACC_RDWR for file in files)
            os.write(write, f"{'left open: ' * is_left}{error}".encode())
        except BaseException as error:
            os.write(write, f"not this: {error!r}".encode())
        os._exit(0)
    os.close(write)
    with open(read) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.parametrize("size_bytes", [0, 100, 2_000, 30_000, 100_000])
@pytest.mark.parametrize("kind", ["h5 of features", "npy", "h5 with gzip"])
def test_a_disk_that_takes_no_more_is_named_and_no_half_file_is_left(
    tmp_path: Path, size_bytes: int, kind: str
) -> None:
    """HDF5 does not survive a write that is refused: it tried again when the process ended, which crashed it."""
    arrays = [(f"v_{number}", np.random.default_rng(number).random((100, 512), np.float32)) for number in range(3)]
    write_arrays(tmp_path / "source.h5", arrays)
    out = tmp_path / ("npy" if kind == "npy" else "f.h5")

    def work() -> None:
        if kind == "h5 with gzip":
            with new_file(out) as temp:
                write_arrays(temp, arrays)
        else:
            do_job("features", {"source": str(tmp_path / "source.h5"), "dest": str(out)})

    said = error_in_a_child(work, size_bytes)
    assert re.match(rf"{out}\S* would be larger than its file system", said), said
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["source.h5"]
