"""``tspctl features config``: from what a set says of itself, without torch."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tsp.run.feature_set import FeatureSet, VideoFeatures


@pytest.fixture
def described(home: Path) -> Path:
    (home / "features").mkdir()
    made = {"rate_fps": 15.0, "stride_frames": 1, "clip_frames": 16, "dimension": 512}
    said = FeatureSet(**made, prefix="v_", videos={"a": VideoFeatures(features=3)})  # type: ignore[arg-type]
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
        (None, 3, "has no features.json"),
        ("{", 3, "is not JSON"),
        ('{"videos": {"a": 1}}', 3, "does not describe features"),
        ("[]", 3, "does not describe features"),
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


def test_an_h5_file_is_answered_with_the_command_that_converts_it(tspctl: Tspctl, home: Path) -> None:
    ended = tspctl("features", "config", "f.h5", "--for", "actionformer")
    assert (ended.code, "tspctl features convert f.h5 DIR" in ended.err) == (2, True)
