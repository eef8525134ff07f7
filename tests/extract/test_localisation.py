"""Up to the other code's door: what ActionFormer, TriDet and OpenTAD would load from what we write.

The loading rules are written anew from those codes' data sets (ActionFormer ``libs/datasets``: anet, thumos14; OpenTAD
``opentad/datasets``: anet, thumos, base), of which TriDet's are copies of ActionFormer's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

from tests.conftest import MakeOnce
from tests.jobs import do_job
from tsp.config.jobs import DemoJob
from tsp.errors import ConfigError, DataError
from tsp.model.heads import TspModel
from tsp.prepare.demo import draw_demo
from tsp.prepare.localisation import localisation_database, merged
from tsp.run.feature_set import FeatureSet
from tsp.run.localisation import BLOCKS, actionformer_block, numbers_of, opentad_block
from tsp.run.results import parse_line

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features-to-localisation.md"


def as_actionformer_loads(block: dict[str, Any], subset: str, *, is_tridet: bool = False) -> dict[str, dict[str, Any]]:
    """Features, and segments as positions among them, of the videos of a subset.

    TriDet's differs in one line: features of fixed length are of one step each, whatever the configuration says.
    """
    database = json.loads(Path(block["json_file"]).read_text())["database"]
    loaded = {}
    for video, entry in database.items():
        key = f"{block['file_prefix'] or ''}{video}"
        if entry["subset"].lower() != subset:
            continue
        if ".hdf5" in block["feat_folder"]:
            with h5py.File(block["feat_folder"]) as file:
                features = np.asarray(file[key], np.float32)
        else:
            path = Path(block["feat_folder"]) / f"{key}{block['file_ext']}"
            if not path.exists():
                continue
            features = np.load(path).astype(np.float32)
        fps, stride, frames = block["default_fps"], block["feat_stride"], block["num_frames"]
        if stride > 0:
            features, stride = features[:: block["downsample_rate"]], stride * block["downsample_rate"]
        else:
            stride = entry["duration"] * fps / len(features)
            frames = stride * (1 if is_tridet else block["num_frames"])
        seconds = np.array([item["segment"] for item in entry["annotations"]], np.float32)
        positions = (seconds * fps - 0.5 * frames) / stride
        ids = [item["label_id"] for item in entry["annotations"]]
        loaded[video] = {"features": features, "positions": positions, "labels": ids}
    return loaded


def as_opentad_loads(source: str, subset: str, *, thumos: bool) -> dict[str, dict[str, Any]]:
    """The same of OpenTAD's padding data sets."""
    names: dict[str, Any] = {}
    exec(source, {"dict": dict}, names)  # its configurations are Python
    block, load = names["features"], names["load_feats"]
    blocked = Path(block["block_list"]).read_text().splitlines()
    loaded = {}
    for video, entry in json.loads(Path(block["ann_file"]).read_text())["database"].items():
        if video in blocked or entry["subset"] not in subset:
            continue
        rate = entry["frame"] / entry["duration"] if thumos else block["fps"]
        path = Path(block["data_path"]) / f"{load['prefix']}{video}{load['suffix']}.{load['feat_format']}"
        seconds = np.array([item["segment"] for item in entry["annotations"]], np.float32)
        frames = (seconds * rate).astype(int) if thumos else seconds * rate
        positions = (frames - block["offset_frames"]) / (block["feature_stride"] * block["sample_stride"])
        loaded[video] = {"features": np.load(path).astype(np.float32), "positions": positions}
    return loaded


@pytest.fixture(scope="module")
def walk(make_once: MakeOnce, tiny_model: TspModel) -> Path:
    """A folder in which the page's commands were run, one after the other."""

    def run(folder: Path) -> None:
        draw_demo(folder / "data", DemoJob(dest="data", num_train_videos=1, num_valid_videos=3), workers=1)
        torch.save({"model": tiny_model.state_dict(), "epoch": 5}, folder / "epoch_5.pth")
        prefixes = ("TSPCTL_", "XDG_", "AWS_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
        environment |= {"HOME": str(folder / "home"), "TSPCTL_BACKEND": "local", "OMP_NUM_THREADS": "1"}
        program = Path(sys.executable).with_name("tspctl")
        outputs = []
        for line in re.findall(r"^\$ tspctl (.+)$", PAGE.read_text(), flags=re.MULTILINE):
            done = subprocess.run(
                [program, *line.split()], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"
            outputs.append((line, done.stdout))
        (folder / "outputs.json").write_text(json.dumps(outputs))

    return make_once("localisation-page", run)


reads_the_page = pytest.mark.slow(seconds=0)
"""Later than the other slow tests: by then the first of these has run the page's commands."""


def output_of(walk: Path, words: str) -> str:
    (text,) = [out for line, out in json.loads((walk / "outputs.json").read_text()) if words in line]
    return str(text)


@pytest.mark.slow(seconds=30)
def test_the_page_leads_to_what_actionformer_loads(walk: Path) -> None:
    block = yaml.safe_load(output_of(walk, "--for actionformer"))["dataset"]
    loaded = as_actionformer_loads(block, "validation")
    annotated = json.loads((walk / "data" / "demo_annotations.json").read_text())["database"]
    assert set(loaded) == {video for video, entry in annotated.items() if entry["subset"] == "validation"}
    assert block["input_dim"] == 512
    labels = json.loads((walk / "data" / "demo_action_label_mapping.json").read_text())
    for video, item in loaded.items():
        assert item["features"].shape[1] == 512
        actions = annotated[video]["annotations"]
        seconds = np.array([action["segment"] for action in actions])
        # Feature i of a 16-frame clip at 15 fps and stride 16 stands for (16 i + 8) / 15 s.
        np.testing.assert_allclose((item["positions"] * 16 + 8) / 15, seconds, atol=1e-4)
        assert item["positions"].max() <= len(item["features"]) + 0.5
        assert [sorted(labels)[index] for index in item["labels"]] == [action["label"] for action in actions]


@reads_the_page
def test_the_page_scores_the_encoder_as_the_original_reports_it(walk: Path) -> None:
    line, *table = output_of(walk, "evaluate").splitlines()
    result = parse_line(line)
    assert (result.epoch, [head.label_column for head in result.heads]) == (5, ["action-label"])
    stored = json.loads((walk / "epoch_5-on-demo.json").read_text())
    assert stored["results_line"] == line
    labels = json.loads((walk / "data" / "demo_action_label_mapping.json").read_text())
    assert [row.split()[0] for row in table[2 : 2 + len(labels)]] == labels


@reads_the_page
@pytest.mark.parametrize("thumos", [False, True])
def test_opentad_loads_the_same(walk: Path, thumos: bool) -> None:
    theirs = as_opentad_loads(output_of(walk, "--for opentad"), "validation", thumos=thumos)
    ours = as_actionformer_loads(yaml.safe_load(output_of(walk, "--for actionformer"))["dataset"], "validation")
    assert set(theirs) == set(ours)
    for video, item in ours.items():
        np.testing.assert_array_equal(theirs[video]["features"], item["features"])
        # The THUMOS loader cuts to whole frames: a sixteenth of a step.
        np.testing.assert_allclose(theirs[video]["positions"], item["positions"], atol=1.5 / 16 if thumos else 1e-4)


@reads_the_page
def test_a_resized_set_has_its_actions_at_the_same_share_of_the_video(walk: Path) -> None:
    described = FeatureSet.from_dict(json.loads((walk / "features_100" / "features.json").read_text()), where="x")
    text = actionformer_block(
        numbers_of(described, where="x"), str(walk / "features_100"), str(walk / "annotations.json")
    )
    block = yaml.safe_load(text)["dataset"]
    database = json.loads((walk / "annotations.json").read_text())["database"]
    loaded = as_actionformer_loads({**block, "file_prefix": ""}, "validation")
    assert loaded
    for video, item in loaded.items():
        assert len(item["features"]) == block["max_seq_len"] == 100
        seconds = np.array([action["segment"] for action in database[video]["annotations"]])
        np.testing.assert_allclose((item["positions"] + 0.5) / 100, seconds / database[video]["duration"], atol=1e-5)


def test_numbers_that_a_set_does_not_know_are_asked_for_and_contradictions_refused() -> None:
    published = FeatureSet(dimension=512)
    with pytest.raises(ConfigError, match="does not record how it was made: give --stride"):
        numbers_of(published, where="f")
    numbers = numbers_of(published, where="f", stride_frames=1, clip_frames=16, rate_fps=15.0)
    assert "feat_stride: 1," in actionformer_block(numbers, "f", None)
    assert "offset_frames=8," in opentad_block(numbers, "f", None)
    with pytest.raises(ConfigError, match="--stride is 1, but f was made with 16"):
        numbers_of(FeatureSet(dimension=512, stride_frames=16), where="f", stride_frames=1)


@reads_the_page
@pytest.mark.parametrize("folder", ["features", "features_100", "features.hdf5"])
def test_tridet_loads_the_same_as_actionformer(walk: Path, folder: str) -> None:
    source = walk / ("features" if folder.endswith(".hdf5") else folder)
    if folder.endswith(".hdf5"):
        do_job("features", {"source": str(source), "dest": str(walk / folder), "prefix": "v_"})
    described = FeatureSet.from_dict(json.loads((source / "features.json").read_text()), where="x")
    numbers = numbers_of(described, where="x")
    loaded = []
    for code in ("actionformer", "tridet"):
        text = BLOCKS[code](numbers, str(walk / folder), str(walk / "annotations.json"))
        block = yaml.safe_load(text)["dataset"]
        loaded.append(as_actionformer_loads(block, "validation", is_tridet=code == "tridet"))
    actionformer, tridet = loaded
    assert set(actionformer) == set(tridet) != set()
    for video, item in actionformer.items():
        np.testing.assert_array_equal(item["features"], tridet[video]["features"])
        np.testing.assert_array_equal(item["positions"], tridet[video]["positions"])


ROW = {"video-name": "a", "video-duration": 10.0, "t-start": 1.0, "t-end": 2.5}


def test_annotations_count_frames_at_the_clips_rate_and_leave_background_out() -> None:
    rows = [{**ROW, "action-label": "Run"}, {**ROW, "action-label": ""}]
    assert localisation_database(rows, ["Jump", "Run"], subset="training", rate_fps=15.0) == {
        "a": {
            "subset": "training", "duration": 10.0, "fps": 15.0, "frame": 150,
            "annotations": [{"segment": [1.0, 2.5], "label": "Run", "label_id": 1}],
        }
    }  # fmt: skip


def test_subsets_come_together_in_one_file_and_must_number_labels_alike() -> None:
    def database(video: str, labels: list[str]) -> Any:
        rows = [{**ROW, "video-name": video, "action-label": "Run"}]
        return localisation_database(rows, labels, subset="training", rate_fps=15.0)

    text = merged(None, database("a", ["Jump", "Run"]), where="j")
    assert set(json.loads(merged(text, database("b", ["Jump", "Run"]), where="j"))["database"]) == {"a", "b"}
    with pytest.raises(
        DataError, match="j has 'Run' as class 1, but here it is 0: give both commands the same --labels"
    ):
        merged(text, database("b", ["Run"]), where="j")
    with pytest.raises(DataError, match="exists but was not written by --json"):
        merged(b"[1]", database("b", ["Run"]), where="j")


def test_a_json_without_the_subsets_name_is_refused() -> None:
    request = {"annotations": "a.json", "metadata": "m.csv", "out": "t.csv", "json": "j.json"}
    with pytest.raises(ConfigError, match="--json needs --subset"):
        do_job("annotate", request)
