"""Validation figures: those of the plainest computation, whatever the number of ranks."""

import csv
import math
from fractions import Fraction

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional

from tests import reference
from tests.train.worlds import LABELS, config_for, on_ranks, plain_tally, run_of, train_here, validate_rank
from tsp.config.run import ClipConfig
from tsp.model.weights import load_model_state
from tsp.run.results import format_line, parse_line
from tsp.train import checkpoint
from tsp.train.distributed import RankEnv
from tsp.train.training_state import build_model
from tsp.train.validate import Tally

COLUMNS = ["action-label", "temporal-region-label"]


@pytest.fixture(scope="module")
def trained(tiny_data, tmp_path_factory):
    """A configuration with clips of the published size, and a checkpoint of it."""
    config = config_for(
        tiny_data,
        tmp_path_factory.mktemp("store"),
        clips=ClipConfig(per_segment=2),
        schedule__epochs=1,
        schedule__warmup_epochs=0,
        batch_per_gpu=3,
    )
    return config, train_here(config).store.local_path("run/epoch_0.pth")


def reference_figures(config, weights, root):
    """(accuracy, loss) of each head, total loss, and pairs (class, prediction) of each head's labelled clips: clip by
    clip from full float32 pixels, written from the method."""
    model = build_model(config.model, [3, 2], seed=0).eval()
    load_model_state(model, checkpoint.read(weights)["model"], where=str(weights))
    rows = list(csv.DictReader((root / "valid.csv").open()))
    rows = [row for row in rows if (float(row["t-end"]) - float(row["t-start"])) * 15 >= 16]
    clips = []
    for number in range(config.clips.per_segment):
        for row in rows:
            share = np.linspace(0, 1, config.clips.per_segment)[number]
            start = float(row["t-start"]) + share * (float(row["t-end"]) - float(row["t-start"]) - 16 / 15)
            frames = reference.read_clip(root / "valid" / row["filename"], start, Fraction(30))
            action = LABELS["actions"].index(row["action-label"]) if row["action-label"] else -1
            region = LABELS["regions"].index(row["temporal-region-label"])
            with h5py.File(root / "gvf.h5") as file:
                gvf = torch.from_numpy(file[row["video-name"]][:])
            clips.append((reference.transformed(frames), gvf, (action, region)))
    pairs, losses, totals = ([], []), ([], []), []
    for at in range(0, len(clips), config.batch_per_gpu):
        batch = clips[at : at + config.batch_per_gpu]
        with torch.no_grad():
            outputs = model(torch.stack([clip for clip, _, _ in batch]), torch.stack([gvf for _, gvf, _ in batch]))
        total = 0.0
        for head, logits in enumerate(outputs):
            target = torch.tensor([targets[head] for _, _, targets in batch])
            known = target != -1
            if known.any():
                losses[head].append(functional.cross_entropy(logits[known], target[known]).item())
                total += losses[head][-1]
            pairs[head].extend(zip(target[known].tolist(), logits.argmax(1)[known].tolist(), strict=True))
        totals.append(total)
    accuracies = [100 * sum(true == found for true, found in head) / len(head) for head in pairs]
    heads = [(accuracies[head], float(np.mean(losses[head]))) for head in (0, 1)]
    return heads, float(np.mean(totals)), pairs


def test_figures_agree_with_the_plain_computation_to_the_third_decimal(trained, tiny_data):
    config, weights = trained
    heads, total, pairs = reference_figures(config, weights, tiny_data)
    tally = validate_rank(RankEnv(), config, weights)
    result = parse_line(format_line(tally.result(0, COLUMNS)))
    for (accuracy, loss), head in zip(heads, result.heads, strict=True):
        assert head.accuracy_percent == pytest.approx(accuracy, abs=6e-4)
        assert head.loss == pytest.approx(loss, abs=6e-4)
    assert result.total_loss == pytest.approx(total, abs=6e-4)
    assert result.avg_accuracy_percent == pytest.approx((heads[0][0] + heads[1][0]) / 2, abs=6e-4)
    for matrix, found in zip(tally.matrices(), pairs, strict=True):
        counted = [[found.count((true, taken)) for taken in range(len(matrix))] for true in range(len(matrix))]
        assert matrix.tolist() == counted


@pytest.mark.parametrize("world_size", [2, 3])
def test_figures_depend_on_no_world_size(trained, world_size):
    config, weights = trained
    alone = plain_tally(RankEnv(), config, weights)
    found = on_ranks(world_size, plain_tally, config, weights)
    assert found == [(alone, None)] * world_size


def test_a_training_records_the_counts_of_its_validation(trained):
    config, weights = trained
    record = run_of(config).epochs()[0]
    tally = validate_rank(RankEnv(), config, weights)
    labels = [LABELS["actions"], LABELS["regions"]]
    assert record.classes == tally.classes(COLUMNS, labels)
    for head, counts in zip(record.result.heads, record.classes, strict=True):
        rows = counts.rows()
        assert head.accuracy_percent == 100 * sum(row.correct for row in rows) / sum(row.clips for row in rows)


def test_a_batch_without_labels_is_left_out_of_its_heads_mean_alone():
    tally = Tally.empty(3, [2, 2])
    # per head: loss, has a label; total
    tally.losses[:] = torch.tensor([[0.5, 1, 1.0, 1, 1.5], [0.0, 0, 2.0, 1, 2.0], [0.7, 1, 0.6, 1, 1.3]])
    tally.counts[0][:] = torch.tensor([2, 0, 1, 1, 4])
    tally.counts[1][:] = torch.tensor([5, 2, 2, 3, 0])
    result = tally.result(7, ["action-label", "region"])
    assert result.epoch == 7
    assert [(head.label_column, head.accuracy_percent) for head in result.heads] == [
        ("action-label", 75.0),
        ("region", pytest.approx(100 * 8 / 12)),
    ]
    assert [head.loss for head in result.heads] == [pytest.approx(0.6), pytest.approx(1.2)]
    assert result.total_loss == pytest.approx(1.6)
    assert result.avg_accuracy_percent == pytest.approx((75 + 100 * 8 / 12) / 2)


def test_a_batch_is_counted_by_class_without_its_unlabelled_clips():
    tally = Tally.empty(2, [3])
    logits = torch.eye(3)[[0, 1, 1, 2, 2]]
    tally.add(1, [logits], torch.tensor([[0], [1], [0], [-1], [2]]), [1.0])
    assert tally.matrices()[0].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert tally.losses[0].tolist() == [0, 0, 0]
    tally.add(0, [logits], torch.full((5, 1), -1), [1.0])
    assert tally.losses[0].tolist() == [0, 0, 0], "no label: no loss"


def test_a_head_without_any_label_has_no_figures():
    result = Tally.empty(2, [4]).result(0, ["action-label"])
    assert math.isnan(result.heads[0].accuracy_percent)
    assert math.isnan(result.heads[0].loss)
