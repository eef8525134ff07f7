"""Real footage: the example data set checks out, and every kind of fault gives one message that names file and row."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.clips import read_clip
from tests.jobs import do_job
from tsp.config.codec import to_dict
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import RunConfig
from tsp.data.features import GvfFile
from tsp.data.segments import load_segments
from tsp.data.video import VideoError
from tsp.errors import DataError
from tsp.prepare.check import check_data
from tsp.prepare.findings import ERROR, DataFinding

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/real"


def config_of(dataset_file: Path, root: Path, method: str = "tac", **given) -> RunConfig:
    return resolve(
        load_dataset(str(dataset_file)),
        method,
        name="real",
        store={"uri": "/tmp/store"},
        root=str(root),
        overrides={"model.backbone": "r2plus1d_18", "model.pretrained": "none"},
        **given,
    )


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example whose tables a test may spoil; the videos stay where they are."""
    shutil.copytree(EXAMPLE, tmp_path / "real")
    return tmp_path / "real"


@pytest.fixture
def errors_of(example: Path, shared_dir: Path) -> Callable[..., list[DataFinding]]:
    """Checks the (spoilt) example and gives the errors, or the warnings about a table's row."""

    def errors(*, warnings: bool = False, **given) -> list[DataFinding]:
        report = check_data(
            config_of(example / "dataset.yaml", shared_dir / "videos", **given), decode_all=False, workers=1
        )
        if warnings:
            return [finding for finding in report.findings if finding.severity == "warning" and finding.row]
        return [finding for finding in report.findings if finding.severity == ERROR]

    return errors


def spoil(table: Path, row: int, **changes: str) -> None:
    """Change fields of one row, counted with the header as row 1."""
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    rows[row - 2].update({name.replace("_", "-"): value for name, value in changes.items()})
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, reader.fieldnames)
        writer.writeheader()
        writer.writerows(rows)


def heads_of(example: Path) -> list[tuple[str, Path]]:
    return [("action-label", example / "actions.json"), ("temporal-region-label", example / "regions.json")]


@pytest.mark.parametrize(("method", "given"), [("tac", {}), ("tsp", {"gvf": "none"})])
def test_the_example_has_no_error_and_every_class_in_both_subsets(shared_dir, method, given):
    config = config_of(EXAMPLE / "dataset.yaml", shared_dir / "videos", method, **given)
    answer = do_job("check", {"config": to_dict(config), "decode": method == "tac", "workers": 1})
    assert (answer["errors"], answer["exit_code"]) == (0, 0)
    assert {row["message"] for row in answer["rows"]} == {
        "in both training and validation: the accuracy will be too high",
        "the container does not store when frames are shown, so they are in the decoder's order: run 'tspctl data "
        "standardize'",
    }
    for labels in answer["classes"].values():
        assert all(counts["train"] and counts["valid"] for counts in labels.values())
    assert answer["counts"]["train"]["clips_per_epoch"] == 25
    json.dumps(answer)


def test_the_example_is_found_from_any_folder(monkeypatch, tmp_path, shared_dir):
    monkeypatch.chdir(tmp_path)
    config = config_of(EXAMPLE / "dataset.yaml", shared_dir / "videos")
    assert Path(config.data.train.csv) == EXAMPLE / "train_groundtruth.csv"
    assert Path(config.model.heads[0].labels) == EXAMPLE / "actions.json"
    assert config.data.train.videos == "."


def test_every_segment_of_the_example_gives_its_first_and_last_clip(shared_dir):
    for name in ("train", "valid"):
        table = load_segments(EXAMPLE / f"{name}_groundtruth.csv", heads_of(EXAMPLE))
        for segment in (table[index] for index in range(len(table))):
            for start_sec in (segment.start_sec, segment.end_sec - 16 / 15):
                clip = read_clip(shared_dir / "videos" / segment.filename, start_sec)
                assert clip.shape[0] == 16


def test_a_corrupted_video_is_named_with_its_row(example, errors_of, shared_dir):
    spoil(example / "train_groundtruth.csv", 3, filename="corrupted.mp4", video_duration="5.0", t_start="2", t_end="5")
    (error,) = errors_of()
    assert (error.file, error.row) == ("corrupted.mp4", 3)
    assert "decoding fails after 2.70 s of 4.90" in error.message
    assert f"{example}/train_groundtruth.csv names it in row 3" in error.message
    with pytest.raises(VideoError, match=r"corrupted\.mp4"):
        read_clip(shared_dir / "videos/corrupted.mp4", 3.5)


def test_a_missing_video_is_named_with_its_row(example, errors_of, shared_dir):
    spoil(example / "valid_groundtruth.csv", 2, filename="gone.mp4")
    (error,) = errors_of()
    assert (error.subset, error.file, error.row) == ("valid", "gone.mp4", 2)
    assert f"{shared_dir}/videos/gone.mp4: No such file or directory" in error.message
    with pytest.raises(VideoError, match=r"gone\.mp4: No such file"):
        read_clip(shared_dir / "videos/gone.mp4", 0.0)


def test_a_wrong_duration_is_named_with_its_row(example, errors_of, shared_dir):
    for row in (5, 6):
        spoil(example / "train_groundtruth.csv", row, video_duration="14.5")
    assert errors_of() == [], "a run does not refuse it"
    (error,) = errors_of(warnings=True)
    assert (error.file, error.row) == (f"{example}/train_groundtruth.csv", 5)
    assert error.message == "video-duration of flipping_a_pancake.mkv is 14.500, but the file lasts 10.333 s"


def test_a_segment_past_the_end_is_named_with_its_row(example, errors_of):
    spoil(example / "train_groundtruth.csv", 4, t_start="7.0", t_end="9.0")
    assert errors_of() == [], "a run leaves it out"
    (error,) = errors_of(warnings=True)
    assert (error.file, error.row) == (f"{example}/train_groundtruth.csv", 4)
    assert error.message == "the segment begins after the video's end (7.0 s of 6.56 s) and is left out"
    table = load_segments(example / "train_groundtruth.csv", heads_of(example))
    assert 4 not in table.rows


def test_a_segment_past_the_end_of_a_video_whose_duration_is_wrong_too_is_named(example, errors_of):
    spoil(example / "train_groundtruth.csv", 4, video_duration="9.0", t_start="7.0", t_end="9.0")
    errors = errors_of()
    assert {error.row for error in errors} == {4}
    assert [error.message for error in errors] == [
        "the segment ends at 9.000 s, but ucf_test.avi at 6.560 s: no clip of it can be read"
    ]


def test_a_label_outside_the_map_is_named_with_its_row(example, errors_of):
    spoil(example / "train_groundtruth.csv", 3, action_label="Cleaning pools")
    (error,) = errors_of()
    assert (error.file, error.row) == (f"{example}/train_groundtruth.csv", 3)
    assert error.message == (
        "action-label 'Cleaning pools' is not in the label map, whose 4 classes begin with 'Applying eye makeup'"
    )
    with pytest.raises(DataError, match=r"train_groundtruth\.csv row 3: action-label 'Cleaning pools' is not in the"):
        load_segments(example / "train_groundtruth.csv", heads_of(example))


def write_gvf(example: Path, vectors: dict[str, np.ndarray]) -> Path:
    path = example / "r2plus1d_18-max_gvf.h5"
    with h5py.File(path, "w") as file:
        for name, vector in vectors.items():
            file[name] = vector
    text = (example / "dataset.yaml").read_text()
    (example / "dataset.yaml").write_text(text.replace('gvf: "{backbone}', 'gvf: "./{backbone}'))
    return path


VIDEOS = ("arm_wrestling", "flipping_a_pancake", "kinetics_test", "ucf_test")


def test_every_hole_in_the_gvf_file_is_named(example, errors_of):
    good = np.ones(512, np.float32)
    path = write_gvf(example, {VIDEOS[0]: good, VIDEOS[1]: np.full(512, np.nan, np.float32), VIDEOS[3]: good[:256]})
    messages = [error.message for error in errors_of(method="tsp") if error.subset == "train"]
    assert len(messages) == 3
    for video, complaint in (
        ("kinetics_test", "has no feature"),
        ("flipping_a_pancake", "NaN"),
        ("ucf_test", "(256,)"),
    ):
        assert any(str(path) in text and repr(video) in text and complaint in text for text in messages)
    with pytest.raises(DataError, match="no feature for the video 'kinetics_test' \\(1 of 4 videos are missing\\)"):
        GvfFile(path).load(VIDEOS)


def test_a_missing_gvf_file_is_one_error_a_subset(example, errors_of):
    path = write_gvf(example, {})
    path.unlink()
    errors = errors_of(method="tsp")
    assert [(error.subset, error.file) for error in errors] == [("train", str(path)), ("valid", str(path))]


def test_an_error_makes_the_job_end_with_exit_code_3(example, shared_dir):
    spoil(example / "train_groundtruth.csv", 3, action_label="Cleaning pools")
    answer = do_job(
        "check", {"config": to_dict(config_of(example / "dataset.yaml", shared_dir / "videos")), "workers": 1}
    )
    assert answer["exit_code"] == 3
    assert answer["rows"][0]["severity"] == "error"
    assert answer["rows"][0]["message"].startswith("action-label 'Cleaning pools' is not in the label map")
