"""One row an encoder: what the model, the options, the chart and the memory table say of it agrees."""

import functools
import json
import typing
from pathlib import Path

import click
import pytest
import torch

from cli.commands.extract import extract
from cli.commands.submit import submit
from tsp.config.backbones import BACKBONES, DEFAULT_BACKBONE, Backbone, published_weights
from tsp.errors import ConfigError
from tsp.model import backbone as model

ROOT = Path(__file__).resolve().parents[2]


def test_every_name_of_an_encoder_has_a_row_and_a_builder_and_no_other_has():
    assert tuple(BACKBONES) == typing.get_args(Backbone) == tuple(model.BACKBONES)
    assert DEFAULT_BACKBONE in BACKBONES


@functools.cache
def encoder_of(name):
    """Shapes without numbers."""
    with torch.device("meta"):
        return model.build_backbone(name)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_row_knows_how_many_parameters_the_encoder_has(name):
    encoder = encoder_of(name)
    assert BACKBONES[name].parameters == sum(parameter.numel() for parameter in encoder.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_a_row_knows_what_a_step_of_it_computes(name):
    counted = []

    def count(layer, inputs, output):
        multiplications = output.numel() * layer.weight[0].numel()
        counted.append(2 * multiplications * (1 + layer.weight.requires_grad + inputs[0].requires_grad))

    encoder = encoder_of(name)
    encoder.stem.requires_grad_(False)
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Conv3d):
            layer.register_forward_hook(count)
    encoder(torch.empty(1, 3, 16, 112, 112, device="meta"))
    gflop = sum(counted) / 1e9
    assert BACKBONES[name].step_gflop_per_clip == pytest.approx(gflop, abs=0.05 if gflop < 1 else 0.5)


def test_short_names_are_short_and_differ():
    names = [row.short_name for row in BACKBONES.values()]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 4


def test_published_weights_end_with_their_digest_and_the_tiny_encoder_has_none():
    for name in ("r2plus1d_34", "r2plus1d_18", "r3d_18"):
        weights = published_weights(name)
        assert weights.url.endswith(f"-{weights.sha256_prefix}.pth")
        assert len(weights.sha256_prefix) == 8
    for name in ("tiny", "r50"):
        with pytest.raises(ConfigError, match="--pretrained none"):
            published_weights(name)


def test_a_mirror_holds_published_weights_under_their_names():
    weights = published_weights("r3d_18")
    assert weights.address(None) == weights.url == "https://download.pytorch.org/models/r3d_18-b3b3357e.pth"
    assert weights.address("s3://models/tsp/") == "s3://models/tsp/r3d_18-b3b3357e.pth"


def test_a_checkpoint_holds_every_parameter_and_its_momentum_in_fp32():
    assert BACKBONES["tiny"].checkpoint_bytes == 2 * 4 * BACKBONES["tiny"].parameters


@pytest.mark.parametrize("name", [name for name, row in BACKBONES.items() if row.step_memory])
def test_memory_figures_are_those_of_the_table(name):
    section = (ROOT / "benchmarks" / "memory.md").read_text().partition(f"### {name}:")[2].partition("###")[0]
    cells = next(line for line in section.splitlines() if line.startswith("| ours, bf16 |")).split("|")
    memory = BACKBONES[name].step_memory
    assert (memory.per_clip_mib, memory.fixed_mib) == (int(cells[3]), int(cells[4]))


@pytest.mark.parametrize("command", [submit, extract])
def test_the_options_offer_every_encoder(command: click.Command):
    (option,) = [parameter for parameter in command.params if parameter.name == "backbone"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == tuple(BACKBONES)


def test_the_chart_takes_every_encoder():
    schema = json.loads((ROOT / "charts" / "tsp" / "values.schema.json").read_text())
    assert schema["properties"]["backbone"]["enum"] == ["", *BACKBONES]
