"""``tspctl evaluate``: what is sent for a run, a file, a released name, and how the answer is shown."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Tspctl
from tsp.config.codec import from_dict
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import RunConfig
from tsp.config.sizing import effective_sizes
from tsp.run.class_counts import ClassCounts
from tsp.run.evaluation import Evaluation, EvaluationFile, answer_of
from tsp.run.results import EpochResult, HeadResult, format_line
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store

RESULT = EpochResult(3, (HeadResult("action-label", 60.0, 1.5),), 1.5, 60.0)
CLASSES = ClassCounts.of("action-label", ["Run", "Jump", "Throw"], [[3, 0, 5], [0, 0, 0], [0, 1, 1]])
EVALUATION = Evaluation(
    work="w", checkpoint="c.pth", checkpoint_sha256="0" * 64, dataset="demo", results_line=format_line(RESULT),
    result=RESULT, classes=(CLASSES,), clips=10, batch=32, precision="fp32", clips_per_sec=12.5,
)  # fmt: skip
ANSWER = answer_of(EVALUATION, "/e.json").to_dict()


@pytest.fixture
def trained(tspctl: Tspctl, local: Path, data_root: Path) -> RunConfig:
    """A run called tac with an epoch, whose ranks halved its batch."""
    config = resolve(
        load_dataset("demo"), "tac", name="tac", store={"uri": str(local)}, root=str(data_root),
        overrides={"clips.per_segment": 3, "seed": 7, "model.precision": "bf16", "resume": "old.pth"},
    )  # fmt: skip
    StoredRun(open_store(config.store), "tac").create(config, effective_sizes(config, downscale=2))
    (local / "tac" / "epoch_3.pth").write_bytes(b"weights")
    (local / "tac" / "results.txt").write_text(format_line(RESULT) + "\n")
    return config


def sent_config(sent: dict[str, Any]) -> RunConfig:
    return from_dict(RunConfig, sent["config"], where="config")


def test_a_run_is_validated_as_it_was_trained(tspctl: Tspctl, local: Path, trained: RunConfig) -> None:
    ended = tspctl("evaluate", "tac", "-o", "json")
    assert ended.code == 0, ended.err
    sent = ended.json["job"]
    assert sent["checkpoint"] == str(local / "tac" / "epoch_3.pth")
    assert sent["out"] == str(local / "tac" / "evaluations" / "epoch_3-on-demo.json")
    config = sent_config(sent)
    assert (config.batch_per_gpu, config.model.precision, config.resume) == (8, "fp32", None)
    assert (config.clips, config.data, config.seed) == (trained.clips, trained.data, 7)
    assert [head.label_column for head in config.model.heads] == ["action-label"]


def test_another_data_set_takes_the_runs_recipe(tspctl: Tspctl, local: Path, trained: RunConfig, home: Path) -> None:
    sent = tspctl("evaluate", "tac", "--dataset", "thumos14", "--data", "videos", "-o", "json").json["job"]
    config = sent_config(sent)
    assert (config.data.name, config.data.root, config.method) == ("thumos14", str(home / "videos"), "tac")
    assert config.data.valid.csv == "thumos14_test_tsp_groundtruth.csv"
    assert (config.clips.per_segment, config.model.backbone, config.batch_per_gpu) == (3, "tiny", 8)
    assert sent["out"].endswith("/evaluations/epoch_3-on-thumos14.json")


@pytest.mark.parametrize("dataset", [(), ("--dataset", "thumos14", "--data", "/videos")])
def test_a_run_is_found_by_its_folder_where_no_store_is_set(
    tspctl: Tspctl, local: Path, trained: RunConfig, monkeypatch: pytest.MonkeyPatch, dataset: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TSPCTL_STORE", "/nowhere")
    sent = tspctl("evaluate", local / "tac", *dataset, "-o", "json").json["job"]
    assert sent_config(sent).store.uri == str(local)
    assert sent["out"].startswith(str(local / "tac" / "evaluations"))


def test_what_is_given_wins(tspctl: Tspctl, local: Path, trained: RunConfig) -> None:
    given = ("--precision", "bf16", "--batch-per-gpu", "4", "--set", "data.bad_clips=fail", "--workers", "3")
    sent = tspctl("evaluate", "tac", *given, "--out", "e.json", "--gpus", "1", "-o", "json").json["job"]
    config = sent_config(sent)
    assert (config.model.precision, config.batch_per_gpu, config.data.bad_clips) == ("bf16", 4, "fail")
    assert (sent["workers"], sent["out"]) == (3, str(Path("e.json").absolute()))
    refused = tspctl("evaluate", "tac", "--heads", "region")
    assert (refused.code, "--heads needs --dataset" in refused.err) == (2, True)


def test_a_file_needs_a_data_set_and_is_tsp_unless_told(tspctl: Tspctl, local: Path, home: Path) -> None:
    assert "no data set: the checkpoint does not record" in tspctl("evaluate", "x.pth").err
    sent = tspctl("evaluate", "x.pth", "--dataset", "demo", "-o", "json").json["job"]
    config = sent_config(sent)
    assert (config.method, config.model.gvf, config.batch_per_gpu) == ("tsp", "max", 16)
    assert (config.model.precision, config.model.pretrained) == ("fp32", "none")
    assert sent["out"] == str(home / "x-on-demo.json")


def test_a_released_checkpoint_is_evaluated_on_what_it_was_trained_on_unless_told(tspctl: Tspctl, local: Path) -> None:
    sent = tspctl("evaluate", "r2plus1d_34-tsp_on_thumos14", "-o", "json").json["job"]
    assert sent_config(sent).data.name == "thumos14"
    # There is no data set of that name here to validate on.
    assert "no data set:" in tspctl("evaluate", "r2plus1d_34-tac_on_kinetics").err


def test_what_is_known_of_a_released_checkpoint_is_taken(
    tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPCTL_MODELS_URL", "s3://mirror/tsp")
    for name, expected in {
        "r2plus1d_18-tac_on_activitynet": ("r2plus1d_18", "tac", "none"),
        "r2plus1d_34-tsp_on_activitynet-avg_gvf": ("r2plus1d_34", "tsp", "avg"),
        "r2plus1d_34-tsp_on_activitynet-no_gvf": ("r2plus1d_34", "tsp", "none"),
    }.items():
        sent = tspctl("evaluate", name, "--dataset", "activitynet", "-o", "json").json["job"]
        config = sent_config(sent)
        assert (config.model.backbone, config.method, config.model.gvf) == expected
        assert sent["checkpoint"].startswith(f"s3://mirror/tsp/{expected[0]}-")
        assert config.store.uri == "s3://mirror"
        assert config.data.valid.gvf == (None if expected[2] == "none" else f"{expected[0]}-{expected[2]}_gvf.h5")


def test_gpus_share_the_work(tspctl: Tspctl, local: Path, trained: RunConfig) -> None:
    assert tspctl("evaluate", "tac", "--gpus", "2", "-o", "json").json["job"]["merge_only"] is True
    shards = [json.loads(Path(f"evaluate-{shard}-False.json").read_text()) for shard in (0, 1)]
    assert [(shard["shards"], shard["shard"]) for shard in shards] == [(2, 0), (2, 1)]


def test_the_answer_is_the_results_line_and_every_class(
    tspctl: Tspctl, local: Path, trained: RunConfig, plan_ranks: Callable[..., None]
) -> None:
    plan_ranks(answer=ANSWER)
    lines = tspctl("evaluate", "tac").out.splitlines()
    assert lines[0] == format_line(RESULT)
    assert [line.split() for line in lines[2:6]] == [
        ["CLASS", "HEAD", "CLIPS", "ACCURACY", "%", "MOST", "OFTEN", "CONFUSED", "WITH"],
        ["Run", "action-label", "8", "37.500", "Throw", "5"],
        ["Jump", "action-label", "0", "-"],
        ["Throw", "action-label", "2", "50.000", "Jump", "1"],
    ]
    assert ["clips", "10"] in [line.split() for line in lines[6:]]
    table = list(csv.DictReader(io.StringIO(tspctl("evaluate", "tac", "-o", "csv").out)))
    cells = [(row["class"], row["clips"], row["predicted"], row["predicted_clips"]) for row in table]
    assert cells == [
        ("Run", "8", "Throw", "5"), ("Run", "8", "Run", "3"), ("Jump", "0", "", "0"),
        ("Throw", "2", "Jump", "1"), ("Throw", "2", "Throw", "1"),
    ]  # fmt: skip
    shown = tspctl("evaluate", "tac", "-o", "json").json
    assert shown["rows"][0]["predicted"] == {"Throw": 5, "Run": 3}
    assert shown["result"]["avg_accuracy_percent"] == 60.0


def test_an_earlier_evaluation_is_shown_and_drawn_without_a_job(
    tspctl: Tspctl, local: Path, trained: RunConfig, home: Path
) -> None:
    pytest.importorskip("matplotlib")
    missing = tspctl("evaluate", "tac", "--show")
    assert (missing.code, "without --show" in missing.err) == (3, True)
    folder = local / "tac" / "evaluations"
    EvaluationFile(open_store(replace(trained.store, uri=str(folder))), "epoch_3-on-demo.json").write(EVALUATION)
    shown = tspctl("evaluate", "tac", "--show", "--plot", "p.png", "-o", "json")
    assert shown.code == 0, shown.err
    assert shown.json["results_line"] == format_line(RESULT)
    assert (home / "p.png").read_bytes().startswith(b"\x89PNG")
    assert not list(home.glob("evaluate-*.json"))
    # A file of which nothing else is known: no run, no checkpoint, no data set.
    by_file = tspctl("evaluate", "gone.pth", "--show", "--out", folder / "epoch_3-on-demo.json", "-o", "json")
    assert (by_file.code, by_file.json["results_line"]) == (0, format_line(RESULT))
    assert "is the evaluation of c.pth, not of gone.pth" in by_file.err
    same = tspctl("evaluate", "elsewhere/c.pth", "--show", "--out", folder / "epoch_3-on-demo.json")
    assert "is the evaluation of" not in same.err
    (folder / "epoch_3-on-demo.json").write_text("{}")
    damaged = tspctl("evaluate", "tac", "--show")
    assert (damaged.code, "exists but is not an evaluation" in damaged.err) == (2, True)
