"""Global video features out of H5 files."""

import h5py
import numpy as np
import pytest

from tsp.data.features import GvfFile
from tsp.errors import DataError


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
