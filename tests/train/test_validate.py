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
from tests.train.worlds import LABELS, config_for, on_ranks, train_here, validate_rank
from tsp.config.run import ClipConfig
from tsp.model.weights import load_model_state
from tsp.run.results import format_line, parse_line
from tsp.train import checkpoint
from tsp.train.distributed import RankEnv
from tsp.train.training_state import build_model
from tsp.train.validate import epoch_result


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
    """(accuracy, loss) of each head, total loss: clip by clip from full float32 pixels, written from the method."""
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
    correct, labelled, losses, totals = [0, 0], [0, 0], ([], []), []
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
            correct[head] += (logits.argmax(1)[known] == target[known]).sum().item()
            labelled[head] += known.sum().item()
        totals.append(total)
    heads = [(100 * correct[head] / labelled[head], float(np.mean(losses[head]))) for head in (0, 1)]
    return heads, float(np.mean(totals))


def test_figures_agree_with_the_plain_computation_to_the_third_decimal(trained, tiny_data):
    config, weights = trained
    heads, total = reference_figures(config, weights, tiny_data)
    result = parse_line(format_line(validate_rank(RankEnv(), config, weights)))
    for (accuracy, loss), head in zip(heads, result.heads, strict=True):
        assert head.accuracy_percent == pytest.approx(accuracy, abs=6e-4)
        assert head.loss == pytest.approx(loss, abs=6e-4)
    assert result.total_loss == pytest.approx(total, abs=6e-4)
    assert result.avg_accuracy_percent == pytest.approx((heads[0][0] + heads[1][0]) / 2, abs=6e-4)


@pytest.mark.parametrize("world_size", [2, 3])
def test_figures_depend_on_no_world_size(trained, world_size):
    config, weights = trained
    alone = validate_rank(RankEnv(), config, weights)
    found = on_ranks(world_size, validate_rank, config, weights)
    assert found == [(alone, None)] * world_size


def test_a_batch_without_labels_is_left_out_of_its_heads_mean_alone():
    columns = ["action-label", "region"]
    # correct, labelled, loss, has a label; for each head; total
    table = torch.tensor(
        [[1, 2, 0.5, 1, 3, 4, 1.0, 1, 1.5], [0, 0, 0, 0, 1, 4, 2.0, 1, 2.0], [2, 2, 0.7, 1, 4, 4, 0.6, 1, 1.3]]
    ).double()
    result = epoch_result(7, columns, table)
    assert result.epoch == 7
    assert [(head.label_column, head.accuracy_percent) for head in result.heads] == [
        ("action-label", 75.0),
        ("region", pytest.approx(100 * 8 / 12)),
    ]
    assert [head.loss for head in result.heads] == [pytest.approx(0.6), pytest.approx(1.2)]
    assert result.total_loss == pytest.approx(1.6)
    assert result.avg_accuracy_percent == pytest.approx((75 + 100 * 8 / 12) / 2)


def test_a_head_without_any_label_has_no_figures():
    result = epoch_result(0, ["action-label"], torch.zeros(2, 5, dtype=torch.float64))
    assert math.isnan(result.heads[0].accuracy_percent)
    assert math.isnan(result.heads[0].loss)
