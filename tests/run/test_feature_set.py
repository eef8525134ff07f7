"""What features say of themselves: the description beside them, and the names of a set's files."""

import json

import pytest

from tsp.errors import DataError
from tsp.run.feature_set import (
    FeatureSet,
    VideoFeatures,
    described_by,
    file_stem,
    missing_files,
    parse_description,
    refuse_shared_stems,
    set_of,
)

SET = FeatureSet(
    rate_fps=15.0, stride_frames=16, clip_frames=16, dimension=512, encoder="tiny", prefix="v_", missing=("c",),
    videos={"a": VideoFeatures(features=4, frames=130, fps=30.0, duration_sec=13 / 3), "b": VideoFeatures(features=0)},
)  # fmt: skip


def test_a_description_survives_json_unchanged_and_says_where_clips_have_their_middle():
    plain = json.loads(json.dumps(SET.to_dict()))
    assert (FeatureSet.from_dict(plain, where="x"), plain["offset_frames"]) == (SET, 8)
    assert FeatureSet(clip_frames=17).offset_frames == 8
    assert FeatureSet().offset_frames is None


def test_keys_of_a_later_version_are_passed_over():
    plain = {**SET.to_dict(), "of_tomorrow": 1}
    plain["videos"] = {"a": {"features": 4, "of_tomorrow": 1}}
    assert FeatureSet.from_dict(plain, where="x").videos == {"a": VideoFeatures(features=4)}


@pytest.mark.parametrize("name", ["rate_fps", "stride_frames", "clip_frames", "dimension", "resized_to"])
@pytest.mark.parametrize("value", [0, -1, "16", float("nan"), float("inf"), []])
def test_a_number_that_is_none_is_refused_by_its_name(name, value):
    with pytest.raises(DataError, match=rf"x .*{name} is "):
        FeatureSet.from_dict({"videos": {}, name: value}, where="x")


@pytest.mark.parametrize("name", ["rate_fps", "stride_frames", "clip_frames", "dimension", "resized_to"])
@pytest.mark.parametrize("value", [1, 0.5, None])
def test_a_number_above_zero_is_taken_and_none_is_unknown(name, value):
    assert getattr(FeatureSet.from_dict({"videos": {}, name: value}, where="x"), name) == value


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "x"),
        ({"videos": {"a": {}}}, "x"),
        ({"videos": {"a": {"features": "4"}}}, "the number of features of a is '4'"),
        ({"videos": {"a": {"features": 4.0}}}, "the number of features of a is 4.0"),
        ({"videos": {}, "prefix": 3}, "prefix is 3"),
        ({"videos": 3}, "x"),
    ],
)
def test_what_describes_no_features_is_refused(raw, message):
    with pytest.raises(DataError, match=message):
        FeatureSet.from_dict(raw, where="x")


def test_a_description_of_an_older_version_counts_as_none():
    assert parse_description(b'{"rate_fps": 15.0}', where="x") is None
    assert parse_description(b'{"videos": {}}', where="x") == FeatureSet()
    with pytest.raises(DataError, match="x is not JSON"):
        parse_description(b"{", where="x")
    with pytest.raises(DataError, match="x"):
        parse_description(b"[]", where="x")


@pytest.mark.parametrize(
    ("address", "described"),
    [
        ("/out/a.h5", ("/out", "a.h5.json")),
        ("s3://b/a.hdf5", ("s3://b", "a.hdf5.json")),
        ("a.h5", (".", "a.h5.json")),
        ("/a.h5", ("/", "a.h5.json")),
        ("/out/features", ("/out/features", "features.json")),
        ("/out/a.h5.json", ("/out", "a.h5.json")),
        ("features.json", (".", "features.json")),
        ("/features.json", ("/", "features.json")),
    ],
)
def test_a_sets_description_lies_beside_the_h5_and_within_the_folder(address, described):
    assert described_by(address) == described


@pytest.mark.parametrize(
    ("description", "address"),
    [
        ("/out/a.h5.json", "/out/a.h5"),
        ("/out/features.json", "/out"),
        ("features.json", "."),
        ("a.h5.json", "a.h5"),
        ("/out/zz.json", "/out/zz"),
        ("/out/g.hdf5.json", "/out/g.hdf5"),
    ],
)
def test_a_description_tells_whose_it_is(description, address):
    assert set_of(description) == address


def test_files_have_the_prefix_once_and_missing_ones_are_listed_without_it():
    assert [file_stem(video, "v_") for video in ("abc", "v_abc", "")] == ["v_abc", "v_abc", "v_"]
    assert missing_files(["v_a", "b"], "v_") == b"a\nb\n"
    refuse_shared_stems(["a", "b", "a"], "v_")
    with pytest.raises(DataError, match="with --prefix v_, the videos v_a and a would have the same file"):
        refuse_shared_stems(["v_a", "b", "a"], "v_")
