"""Validation alone: the figures of training's own, in shares of any number, and what it refuses."""

import argparse
import dataclasses
import json
import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cli.runs.job_progress import DONE
from tests.jobs import do_job
from tests.stores import s3_store
from tests.train.test_validate import COLUMNS, reference_figures
from tests.train.test_validate import trained as _trained
from tests.train.worlds import LABELS, config_for, run_of
from tsp.config.codec import to_dict
from tsp.errors import ConfigError, DataError, GpuMemoryError, StoreError, StoreUnreachableError
from tsp.run.evaluation import EvaluationFile
from tsp.run.results import format_line, parse_line
from tsp.store.base import sha256_of
from tsp.train import evaluate, evaluation_share

trained = _trained


def request(config, weights, out, **more):
    return {"config": to_dict(config), "checkpoint": str(weights), "out": str(out), **more}


def test_figures_are_those_of_training_and_of_the_plain_computation(trained, tiny_data, tmp_path):
    config, weights = trained
    answer = do_job("evaluate", request(config, weights, tmp_path / "e.json"))
    record = run_of(config).epochs()[0]
    assert answer["results_line"] == record.results_line == format_line(record.result)
    heads, total, pairs = reference_figures(config, weights, tiny_data)
    result = parse_line(answer["results_line"])
    for (accuracy, loss), head in zip(heads, result.heads, strict=True):
        assert head.accuracy_percent == pytest.approx(accuracy, abs=6e-4)
        assert head.loss == pytest.approx(loss, abs=6e-4)
    assert result.total_loss == pytest.approx(total, abs=6e-4)
    rows = {(row["head"], row["class"]): row for row in answer["rows"]}
    for column, names, found in zip(COLUMNS, LABELS.values(), pairs, strict=True):
        for index, name in enumerate(names):
            own = [taken for true, taken in found if true == index]
            row = rows.pop((column, name))
            assert (row["clips"], row["correct"]) == (len(own), own.count(index))
            assert row["predicted"] == {names[taken]: own.count(taken) for taken in set(own)}
    assert not rows


def test_its_speed_is_the_clips_by_the_seconds_that_they_took(trained, tmp_path, monkeypatch):
    config, weights = trained
    now, real = [1000.0], evaluation_share.on_device

    def four_seconds_later(*args, **options):
        now[0] += 4
        return real(*args, **options)

    monkeypatch.setattr(evaluation_share, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(evaluation_share, "on_device", four_seconds_later)
    answer = do_job("evaluate", request(config, weights, tmp_path / "e.json"))
    clips = sum(row["clips"] for row in answer["rows"] if row["head"] == COLUMNS[1])  # of every clip
    assert json.loads((tmp_path / "e.json").read_text())["clips_per_sec"] == clips / 4


def without_times(path):
    content = json.loads(path.read_text())
    del content["created"], content["clips_per_sec"]
    return content


@pytest.mark.parametrize("shards", [2, 8])
def test_shards_give_what_one_process_gives_whichever_ends_last(trained, tmp_path, shards):
    config, weights = trained
    alone, shared = tmp_path / "alone.json", tmp_path / "shared.json"
    do_job("evaluate", request(config, weights, alone))
    with pytest.raises(DataError, match=rf"the shards \[{', '.join(map(str, range(shards)))}\] are not done"):
        do_job("evaluate", request(config, weights, shared, shards=shards, merge_only=True))
    order = np.random.default_rng(shards).permutation(shards).tolist()
    for done, shard in enumerate(order[:-1], start=1):
        answer = do_job("evaluate", request(config, weights, shared, shards=shards, shard=shard))
        assert answer["missing"] == shards - done
        assert not shared.exists()
    last = do_job("evaluate", request(config, weights, shared, shards=shards, shard=order[-1]))
    assert without_times(shared) == without_times(alone)
    assert list(tmp_path.rglob("*-of-*")) == []
    assert do_job("evaluate", request(config, weights, shared, shards=shards, merge_only=True)) == last


def test_in_a_bucket_a_lost_shard_is_done_again_and_the_figures_are_those_of_a_folder(
    trained, tiny_data, s3_servers, tmp_path, monkeypatch
):
    config, weights = trained
    alone = do_job("evaluate", request(config, weights, tmp_path / "alone.json"))
    server = s3_servers("rclone")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    store = s3_store(server)
    for path in (path for path in tiny_data.rglob("*") if path.is_file()):
        store.upload(f"data/{path.relative_to(tiny_data)}", path, sha256=sha256_of(path))
    store.upload("epoch_0.pth", weights, sha256=sha256_of(weights))
    there = dataclasses.replace(
        config,
        store=server.config("runs"),
        data=dataclasses.replace(config.data, root=f"{store.uri}/data", cache_dir=str(tmp_path / "cache")),
    )
    job = request(there, f"{store.uri}/epoch_0.pth", f"{store.uri}/e.json", shards=3)
    assert do_job("evaluate", {**job, "shard": 0})["missing"] == 2
    with monkeypatch.context() as patch:
        # Its pod is lost when it has computed and not yet stored.
        patch.setattr(EvaluationFile, "write_part", lambda *_: (_ for _ in ()).throw(StoreUnreachableError("gone")))
        with pytest.raises(StoreUnreachableError):
            do_job("evaluate", {**job, "shard": 1})
    assert do_job("evaluate", {**job, "shard": 2})["missing"] == 1
    with pytest.raises(DataError, match=r"the shards \[1\] are not done; run them again"):
        do_job("evaluate", {**job, "merge_only": True})
    answer = do_job("evaluate", {**job, "shard": 1})
    assert (answer["results_line"], answer["rows"]) == (alone["results_line"], alone["rows"])
    assert [entry.key for entry in store.list("e.json")] == ["e.json"]


def test_what_is_done_is_not_done_again_unless_something_differs(trained, tmp_path, monkeypatch):
    config, weights = trained
    job = request(config, weights, tmp_path / "e.json")
    first = do_job("evaluate", job)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "evaluate_share", None)
        assert do_job("evaluate", job) == first
    other = dataclasses.replace(config, batch_per_gpu=2)
    second = do_job("evaluate", request(other, weights, tmp_path / "e.json"))
    assert second["batch"] == 2
    accuracies = [[head["accuracy_percent"] for head in answer["result"]["heads"]] for answer in (first, second)]
    assert accuracies[0] == accuracies[1]


def test_a_file_that_is_no_evaluation_stays(trained, tmp_path):
    config, weights = trained
    (tmp_path / "precious.json").write_text("[1]")
    with pytest.raises(ConfigError, match="exists but is not an evaluation"):
        do_job("evaluate", request(config, weights, tmp_path / "precious.json"))
    assert (tmp_path / "precious.json").read_text() == "[1]"


@pytest.mark.parametrize("name", ["there", "file/e.json"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(trained, tmp_path, monkeypatch, name):
    config, weights = trained
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(evaluate, "evaluate_share", lambda *_: pytest.fail("it has computed"))
    with pytest.raises(StoreError, match=r"is a folder: give a file to --out|is not a folder"):
        do_job("evaluate", request(config, weights, tmp_path / name))


def test_scores_that_are_no_numbers_are_said(trained, tmp_path, caplog):
    config, weights = trained

    def spoil(state):
        return {key: value * float("nan") if value.is_floating_point() else value for key, value in state.items()}

    saved(tmp_path / "nan.pth", weights, model=spoil)
    do_job("evaluate", request(config, tmp_path / "nan.pth", tmp_path / "e.json"))
    assert "the loss is nan:" in caplog.text
    assert "its accuracies are meaningless" in caplog.text


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (lambda args: args, "clips.crop_px={crop_px}"),
        (lambda args: argparse.Namespace(clip_len=24, frame_rate=15), "clips.length_frames=24, "),
        (lambda args: argparse.Namespace(tspctl_config="{}"), ""),
        (lambda args: None, ""),
    ],
)
def test_clips_other_than_those_of_the_training_are_told(trained, tmp_path, caplog, args, told):
    config, weights = trained
    other = saved(tmp_path / "other.pth", weights, args=args)
    smaller = dataclasses.replace(config, clips=dataclasses.replace(config.clips, crop_px=28))
    do_job("evaluate", request(smaller, other, tmp_path / "e.json"))
    (*_, last) = ["", *(text for text in caplog.messages if "was trained with clips." in text)]
    assert told.format(crop_px=config.clips.crop_px) in last
    assert bool(last) is bool(told)


def saved(path, weights, **changes):
    """A copy of a checkpoint with other contents."""
    content = torch.load(weights, weights_only=False)
    for key, change in changes.items():
        content[key] = change(content[key])
    torch.save(content, path)
    return path


def with_args(**changes):
    return lambda args: argparse.Namespace(**{**vars(args), **changes})


def as_tac(model):
    kept = {name: value for name, value in model.items() if not name.startswith(("fc1", "fc2"))}
    return kept | {"fc.weight": model["fc1.weight"], "fc.bias": model["fc1.bias"]}


def without_gvf(model):
    return model | {"fc2.weight": model["fc2.weight"][:, :512]}


def encoder_alone(model):
    return {name: value for name, value in model.items() if name.startswith("features.")}


def initial_weights(model):
    return {name.removeprefix("features."): value for name, value in encoder_alone(model).items()}


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"model": encoder_alone}, ConfigError, "contains an encoder without heads"),
        ({"model": initial_weights}, ConfigError, "contains initial weights of an encoder"),
        ({"model": as_tac}, ConfigError, "has one head, but .* give --method tac, or --heads region"),
        ({"model": without_gvf}, ConfigError, "without global video features: give --gvf none"),
        ({"args": with_args(global_video_features="x/r2plus1d_34-avg_gvf.h5")}, ConfigError, "give --gvf avg"),
        ({"args": with_args(label_columns=["temporal-region-label"])}, ConfigError, "give --heads region"),
        (
            {"args": with_args(tspctl_labels=[["checks", "stripes", "rings"], ["Action", "No action"]])},
            DataError,
            "class 0 of action-label was 'checks' when .* but is 'stripes' in the label map actions.json",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_with_the_option_to_give(trained, tmp_path, changes, kind, words):
    config, weights = trained
    other = saved(tmp_path / "other.pth", weights, **changes)
    with pytest.raises(kind, match=words):
        do_job("evaluate", request(config, other, tmp_path / "e.json"))


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"model__backbone": "r3d_18"}, ConfigError, "is a tiny, not a r3d_18: give --backbone tiny"),
        ({"model__gvf": "none"}, ConfigError, "give --gvf max or --gvf avg"),
        ({"data__valid__csv": "no.csv"}, DataError, "no.csv"),
    ],
)
def test_options_that_do_not_fit_the_checkpoint_are_named(trained, tiny_data, tmp_path, changes, kind, words):
    base, weights = config_for(tiny_data, tmp_path, **changes), trained[1]
    with pytest.raises(kind, match=words):
        do_job("evaluate", request(base, weights, tmp_path / "e.json"))


def test_a_checkpoint_of_one_head_is_evaluated_and_two_are_refused(trained, tmp_path):
    config, weights = trained
    one = dataclasses.replace(config.model, heads=config.model.heads[:1], gvf="none")
    tac = dataclasses.replace(config, method="tac", model=one)
    other = saved(tmp_path / "tac.pth", weights, model=as_tac, args=lambda _: argparse.Namespace())
    answer = do_job("evaluate", request(tac, other, tmp_path / "e.json"))
    both = do_job("evaluate", request(config, weights, tmp_path / "both.json"))
    assert answer["result"]["heads"][0] == both["result"]["heads"][0]
    with pytest.raises(ConfigError, match="has 2 heads, but the evaluation needs action-label: give --method tsp"):
        do_job("evaluate", request(tac, weights, tmp_path / "f.json"))


def test_a_label_map_of_another_size_is_refused(trained, tiny_data, tmp_path):
    config, weights = trained
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "actions.json").write_text(json.dumps([*LABELS["actions"], "dots"]))
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(data)))
    with pytest.raises(DataError, match=r"was trained on 3 classes of action-label, .* actions.json has 4"):
        do_job("evaluate", request(other, weights, tmp_path / "e.json"))


def test_missing_videos_are_named_before_anything_is_computed(trained, tiny_data, tmp_path, monkeypatch):
    config, weights = trained
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "valid" / "valid_1.mp4").unlink()
    monkeypatch.setattr(evaluate, "evaluate_share", None)
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(data)))
    with pytest.raises(DataError, match=r"1 of the 2 videos of valid.csv are not in .*data/valid \(valid_1.mp4\)"):
        do_job("evaluate", request(other, weights, tmp_path / "e.json"))


def test_a_gpu_that_is_too_small_is_told_what_a_smaller_batch_changes(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    config, weights = trained
    monkeypatch.setattr("tsp.train.validate.Validator._forward", fail)
    with pytest.raises(GpuMemoryError, match="a --batch-per-gpu smaller than 3"):
        do_job("evaluate", request(config, weights, tmp_path / "e.json"))


def test_it_says_how_far_it_is(caplog, monkeypatch):
    clock = iter([0.0, 5.0, 12.0, 13.0])
    monkeypatch.setattr(evaluation_share.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO)
    report = evaluation_share._reporting(10, 32)
    for done in (1, 2, 3):
        report(done)
    assert [record.getMessage() for record in caplog.records] == ["2 of 10 batches, 5.3 clips/s, 48 s left"]
    assert DONE.match(f"INFO {caplog.messages[0]}").groups() == ("2", "10", "batches")  # for status
