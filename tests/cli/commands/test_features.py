"""``tspctl features config``: from what a set says of itself, without torch."""

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Tspctl
from tests.stores import S3Server, s3_store
from tsp.run.feature_set import FeatureSet, VideoFeatures


@pytest.fixture
def described(home: Path) -> Path:
    (home / "features").mkdir()
    made = {"rate_fps": 15.0, "stride_frames": 1, "clip_frames": 16, "dimension": 512}
    said = FeatureSet(**made, prefix="v_", videos={"a": VideoFeatures(features=3)})
    (home / "features" / "features.json").write_text(json.dumps(said.to_dict()))
    return home / "features"


def test_the_block_has_the_numbers_of_the_set_and_absolute_paths(tspctl: Tspctl, described: Path) -> None:
    ended = tspctl("features", "config", "features", "--for", "tridet", "--json", "a.json")
    assert ended.code == 0, ended.err
    lines = {line.strip() for line in ended.out.splitlines()}
    expected = {f"feat_folder: {described},", "feat_stride: 1,", "num_frames: 16,", "file_prefix: v_,"}
    assert expected <= lines
    assert f"json_file: {described.parent / 'a.json'}," in lines


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 3, "there is no"),
        ("{", 3, "is not JSON"),
        ('{"videos": {"a": 1}}', 3, "is not a description of features"),
        ("[]", 3, "is not a description of features"),
        ('{"videos": {}, "dimension": 512}', 2, "give --stride"),
    ],
)
def test_a_set_that_says_too_little_is_refused(
    tspctl: Tspctl, described: Path, content: str | None, code: int, message: str
) -> None:
    if content is None:
        (described / "features.json").unlink()
    else:
        (described / "features.json").write_text(content)
    ended = tspctl("features", "config", "features", "--for", "opentad")
    assert (ended.code, message in ended.err) == (code, True), ended.err


@pytest.mark.parametrize(
    ("code", "name", "reads"),
    [
        ("opentad", "f.h5", "f"),
        ("opentad", "f.hdf5", "f"),
        ("tridet", "f.h5", "f"),
        ("actionformer", "f.hdf5", "f.hdf5"),
        ("tridet", "f.hdf5", "f.hdf5"),
    ],
)
@pytest.mark.parametrize("given", ["the file", "its description"])
def test_an_h5_file_is_read_itself_or_from_the_files_that_are_to_be_made_of_it(
    tspctl: Tspctl, described: Path, home: Path, code: str, name: str, reads: str, given: str
) -> None:
    (described / "features.json").rename(home / f"{name}.json")
    ended = tspctl("features", "config", name if given == "the file" else f"{name}.json", "--for", code)
    assert ended.code == 0, ended.err
    key = "data_path=" if code == "opentad" else "feat_folder: "
    (line,) = [line.strip() for line in ended.out.splitlines() if line.strip().startswith(key)]
    assert line.removeprefix(key).strip("',") == str(home / reads)
    convert = f"tspctl features convert {home / name} {home / reads}"
    assert (convert in ended.err) == (reads != name)


def test_a_description_alone_says_where_its_files_are(tspctl: Tspctl, described: Path) -> None:
    ended = tspctl("features", "config", "features/features.json", "--for", "actionformer")
    assert f"feat_folder: {described}," in ended.out
    assert "there is no" in tspctl("features", "config", "gone/features.json", "--for", "actionformer").err


def test_what_a_published_file_does_not_record_is_given(tspctl: Tspctl, home: Path) -> None:
    missing = tspctl("features", "config", "tsp.h5", "--for", "opentad")
    assert (missing.code, "there is no" in missing.err) == (3, True)
    (home / "tsp.h5").write_bytes(b"published")
    numbers = ("--stride", "16", "--clip-frames", "16", "--rate", "15")
    short = tspctl("features", "config", "tsp.h5", "--for", "opentad", *numbers)
    assert (short.code, "give --dimension" in short.err) == (2, True)
    ended = tspctl("features", "config", "tsp.h5", "--for", "opentad", *numbers, "--dimension", "512")
    assert ended.code == 0, ended.err
    assert "feature_stride=16," in ended.out
    assert "in_channels=512" in ended.out


@pytest.mark.parametrize("rate", ["0", "-15", "nan", "inf"])
def test_a_rate_that_is_none_is_refused(tspctl: Tspctl, home: Path, rate: str) -> None:
    (home / "tsp.h5").write_bytes(b"published")
    numbers = ("--stride", "16", "--clip-frames", "16", "--dimension", "512")
    ended = tspctl("features", "config", "tsp.h5", "--for", "opentad", *numbers, "--rate", rate)
    assert (ended.code, ended.out, "--rate" in ended.err) == (2, "", True)


def test_what_the_code_will_not_find_is_said(tspctl: Tspctl, described: Path, s3_server: S3Server) -> None:
    (described.parent / "a.json").write_text('{"database": {"a": {"annotations": []}}}')
    assert not tspctl("features", "config", "features", "--for", "tridet", "--json", "a.json").err
    gone = tspctl("features", "config", "features", "--for", "tridet", "--json", "b.json")
    assert (gone.code, f"there is no file {described.parent / 'b.json'}" in gone.err) == (0, True)
    bucket = s3_store(s3_server)
    bucket.write("features.json", (described / "features.json").read_bytes())
    remote = tspctl("features", "config", bucket.uri, "--for", "tridet", "--endpoint-url", s3_server.endpoint_url)
    assert (remote.code, f"'tspctl features convert {bucket.uri} DIR'" in remote.err) == (0, True)


def test_a_resized_set_needs_no_stride_and_any_path_is_yaml(tspctl: Tspctl, home: Path) -> None:
    folder = home / "my features, {new}: #1"
    folder.mkdir()
    (folder / "features.json").write_text(
        json.dumps({"rate_fps": 15, "dimension": 512, "resized_to": 100, "prefix": "no", "videos": {}})
    )
    done = tspctl("features", "config", "--for", "actionformer", folder)
    assert done.code == 0, done.err
    block = yaml.safe_load(done.out)["dataset"]
    assert (block["feat_folder"], block["file_prefix"], block["max_seq_len"]) == (str(folder), "no", 100)
    done = tspctl("features", "config", "--for", "opentad", folder)
    assert "resize_length=100" in done.out


@pytest.mark.parametrize(
    ("prefix", "videos", "missing", "annotated", "code", "said"),
    [
        ("v_", ["a", "b"], [], ["a", "b"], "tridet", ""),
        ("v_", ["a", "b"], [], ["a"], "opentad", ""),
        ("v_", ["v_a"], [], ["a"], "tridet", ""),
        ("v_", ["a"], [], ["a", "c"], "tridet", "1 of 2 videos without features (c); the features are named like v_a"),
        ("v_", ["a"], ["c"], ["a", "c"], "opentad", ""),
        ("v_", ["a"], ["c"], ["a", "c"], "actionformer", "1 of 2 videos without features (c)"),
        ("", ["a"], [], ["a.mp4"], "tridet", "1 of 1 videos without features (a.mp4)"),
        ("", ["v_a"], [], ["a"], "tridet", "--prefix v_' records the prefix"),
        ("v_", ["a"], [], ["v_a"], "tridet", "1 of 1 videos without features (v_a)"),
        ("", [], [], ["a"], "tridet", ""),
    ],
)
def test_annotated_videos_that_the_code_will_not_find_are_said(
    tspctl: Tspctl, home: Path, prefix: str, videos: list[str], missing: list[str], annotated: list[str], code: str,
    said: str,
) -> None:  # fmt: skip
    made = {"rate_fps": 15.0, "stride_frames": 1, "clip_frames": 16, "dimension": 512}
    listed = {name: VideoFeatures(features=3) for name in videos}
    features = FeatureSet(**made, prefix=prefix, videos=listed, missing=tuple(missing))
    (home / "features").mkdir()
    (home / "features" / "features.json").write_text(json.dumps(features.to_dict()))
    (home / "a.json").write_text(json.dumps({"database": {name: {"annotations": []} for name in annotated}}))
    ended = tspctl("features", "config", "features", "--for", code, "--json", "a.json")
    assert ended.code == 0
    if said:
        assert said in ended.err
    else:
        assert not ended.err


def test_annotations_of_another_rate_are_said_for_opentad(tspctl: Tspctl, described: Path) -> None:
    entry = {"annotations": [], "duration": 10.0, "frame": 300}
    (described.parent / "a.json").write_text(json.dumps({"database": {"a": entry}}))
    ended = tspctl("features", "config", "features", "--for", "opentad", "--json", "a.json")
    assert (ended.code, "has 30 frames a second ('frame' / 'duration'), but the features are of 15" in ended.err) == (
        0,
        True,
    )


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"database": 1}'])
def test_a_file_that_is_none_of_annotations_is_said(tspctl: Tspctl, described: Path, content: str) -> None:
    (described.parent / "a.json").write_text(content)
    ended = tspctl("features", "config", "features", "--for", "tridet", "--json", "a.json")
    assert (ended.code, "is not a JSON of annotations" in ended.err) == (0, True)
