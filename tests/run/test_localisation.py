"""The numbers that localisation codes must know of a set, and the blocks that say them."""

import dataclasses
import json

import pytest
import yaml

from tsp.errors import ConfigError
from tsp.run.feature_set import FeatureSet
from tsp.run.localisation import (
    BLOCKS,
    Numbers,
    actionformer_block,
    numbers_of,
    of_another_rate,
    opentad_block,
    read_from,
)

WHOLE = FeatureSet(rate_fps=15.0, stride_frames=1, clip_frames=17, dimension=512, prefix="v_")
NUMBERS = Numbers(stride=1, clip_frames=17, rate_fps=15.0, dimension=512, prefix="v_", resized_to=None)
RESIZED = dataclasses.replace(NUMBERS, stride=0, clip_frames=0, resized_to=100)
OPTIONS = {
    "stride_frames": "--stride",
    "clip_frames": "--clip-frames",
    "rate_fps": "--rate",
    "dimension": "--dimension",
}


def test_what_a_set_says_of_itself_need_not_be_given():
    assert numbers_of(WHOLE, where="f") == NUMBERS
    assert numbers_of(WHOLE, where="f", stride_frames=1, rate_fps=15.0) == NUMBERS


@pytest.mark.parametrize("name", ["stride_frames", "clip_frames", "rate_fps", "dimension"])
def test_what_a_set_does_not_say_is_asked_for_by_the_option(name):
    lacking = dataclasses.replace(WHOLE, **{name: None})
    with pytest.raises(ConfigError, match="f does not record how it was made: give --"):
        numbers_of(lacking, where="f")
    assert numbers_of(lacking, where="f", **{name: getattr(WHOLE, name)}) == NUMBERS
    with pytest.raises(ConfigError, match=r"is 3, but f was made with .*: omit the option"):
        numbers_of(WHOLE, where="f", **{name: 3})


def test_a_resized_set_has_no_stride_and_needs_none():
    unknown = FeatureSet(rate_fps=15.0, dimension=512, prefix="v_", resized_to=100)
    assert numbers_of(unknown, where="f") == RESIZED
    with pytest.raises(ConfigError, match="give --"):
        numbers_of(dataclasses.replace(unknown, dimension=None), where="f")


@pytest.mark.parametrize("rate_fps", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(rate_fps):
    with pytest.raises(ConfigError, match="is the number of frames per second, got"):
        numbers_of(dataclasses.replace(WHOLE, rate_fps=None), where="f", rate_fps=rate_fps)


def test_actionformer_is_told_stride_and_clip():
    text = actionformer_block(NUMBERS, "/out/features", "/out/a.json")
    assert yaml.safe_load(text)["dataset"] == {
        "json_file": "/out/a.json", "feat_folder": "/out/features", "file_prefix": "v_", "file_ext": ".npy",
        "input_dim": 512, "default_fps": 15, "downsample_rate": 1, "feat_stride": 1, "num_frames": 17,
    }  # fmt: skip


def test_actionformer_finds_the_stride_of_a_resized_set_itself():
    block = yaml.safe_load(actionformer_block(dataclasses.replace(RESIZED, prefix=""), "/a.hdf5", None))["dataset"]
    assert block == {
        "feat_folder": "/a.hdf5", "file_prefix": None, "file_ext": ".hdf5", "input_dim": 512, "default_fps": 15,
        "downsample_rate": 1, "feat_stride": -1, "num_frames": 1, "max_seq_len": 100,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["plain", "two words", "a: b", "no", "NULL", "1", "-a", "ü", 'qu"ote', "a#b", "{x}"])
def test_any_folder_and_prefix_is_read_as_it_is(text):
    block = yaml.safe_load(actionformer_block(dataclasses.replace(NUMBERS, prefix=text), text, text))["dataset"]
    assert (block["feat_folder"], block["file_prefix"], block["json_file"]) == (text, text, text)


def opentad(numbers: Numbers, folder: str, annotations: str | None) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(opentad_block(numbers, folder, annotations), {"dict": dict}, names)  # its configurations are Python
    return names


@pytest.mark.parametrize("folder", ["/out/f", "/out/f/"])
def test_opentad_is_told_where_a_clip_has_its_middle(folder):
    names = opentad(NUMBERS, folder, "it's.json")
    assert names["features"] == {
        "ann_file": "it's.json", "data_path": folder, "block_list": "/out/f/missing_files.txt", "feature_stride": 1,
        "sample_stride": 1, "offset_frames": 8, "fps": 15,
    }  # fmt: skip
    assert names["dataset"] == {"train": names["features"], "val": names["features"], "test": names["features"]}
    assert names["load_feats"] == {"type": "LoadFeats", "feat_format": "npy", "prefix": "v_", "suffix": ""}
    assert names["model"] == {"projection": {"in_channels": 512}}


def test_opentad_is_told_the_length_of_a_resized_set():
    features = opentad(RESIZED, "/f", None)["features"]
    assert features == {"data_path": "/f", "block_list": "/f/missing_files.txt", "resize_length": 100}


@pytest.mark.parametrize(
    ("source", "of_actionformer", "of_opentad"),
    [("/f", "/f", "/f"), ("/a.h5", "/a", "/a"), ("/a.hdf5", "/a.hdf5", "/a")],
)
def test_a_code_that_reads_no_h5_reads_the_folder_that_is_made_of_it(source, of_actionformer, of_opentad):
    assert read_from("opentad", source) == of_opentad
    assert read_from("actionformer", source) == read_from("tridet", source) == of_actionformer
    assert BLOCKS["tridet"] is BLOCKS["actionformer"]


@pytest.mark.parametrize(
    ("changes", "entries", "code", "is_told"),
    [
        ({}, [(117, 7.8), (31, 2.03)], "opentad", False),
        ({}, [(234, 7.8), (61, 2.03)], "opentad", True),  # of the files, as other projects publish them
        ({}, [(234, 7.8)], "actionformer", False),  # which is told the rate
        ({"rate_fps": 30.0}, [(117, 7.8)], "opentad", True),
        ({"rate_fps": 30.0}, [(234, 7.8)], "opentad", False),
        ({"resized_to": 100}, [(234, 7.8)], "opentad", False),
        ({}, [(234, 0)], "opentad", False),
        ({}, [("?", 7.8)], "opentad", False),
        ({}, [], "opentad", False),
    ],
)
def test_annotations_that_count_other_frames_than_the_features_are_told_for_opentad(changes, entries, code, is_told):
    database = {f"v{at}": {"frame": frame, "duration": sec} for at, (frame, sec) in enumerate(entries)}
    content = json.dumps({"database": database}).encode()
    said = of_another_rate(dataclasses.replace(NUMBERS, **changes), content, code)
    assert bool(said) is is_told
    assert not said or f"'frame' must be duration x {dataclasses.replace(NUMBERS, **changes).rate_fps:g}" in said


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"database": 1}', b'{"database": {"a": {}}}'])
def test_nothing_is_said_of_the_rate_of_annotations_that_do_not_tell_it(content):
    assert of_another_rate(NUMBERS, content, "opentad") == ""
