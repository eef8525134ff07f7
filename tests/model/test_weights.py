"""Weights from files: what loads, and what is refused with which words."""

import argparse
import os
from collections import Counter

import pytest
import torch

from tsp.errors import ConfigError
from tsp.model import backbone
from tsp.model.backbone import BACKBONES, build_backbone
from tsp.model.heads import HeadSpec, TspModel
from tsp.model.weights import load_model_state, load_pretrained, read_file, recognise


def tiny_model(seed=0):
    torch.manual_seed(seed)
    return TspModel("tiny", [HeadSpec(label_column="action-label", num_classes=3)])


@pytest.fixture
def other_encoder():
    torch.manual_seed(1)
    return build_backbone("tiny").state_dict()


def saved(tmp_path, content, **options):
    path = tmp_path / "weights.pth"
    torch.save(content, path, **options)
    return path


def same_encoder(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.features.state_dict().items())


def test_bare_names_with_a_classifier_load_and_leave_the_heads_alone(tmp_path, other_encoder):
    model = tiny_model()
    head = model.fc.weight.clone()
    classifier = {"fc.weight": torch.zeros(400, 512), "fc.bias": torch.zeros(400)}
    load_pretrained(model, saved(tmp_path, {**other_encoder, **classifier}))
    assert same_encoder(model, other_encoder)
    assert torch.equal(model.fc.weight, head)


def test_files_without_batch_counters_load(tmp_path, other_encoder):
    model = tiny_model()
    old_style = {name: value for name, value in other_encoder.items() if not name.endswith("num_batches_tracked")}
    assert len(old_style) < len(other_encoder)
    load_pretrained(model, saved(tmp_path, old_style))
    assert torch.equal(model.features.layer1[0].weight, other_encoder["layer1.0.weight"])


@pytest.mark.parametrize("zip_file", [True, False])
def test_a_checkpoint_of_the_original_system_loads_as_encoder_weights(tmp_path, other_encoder, zip_file):
    state = {f"features.{name}": value for name, value in other_encoder.items()}
    content = {
        "model": {**state, "fc1.weight": torch.zeros(20, 512), "fc2.weight": torch.zeros(2, 1024)},
        "lr_scheduler": {"milestones": Counter([4, 6])},
        "args": argparse.Namespace(backbone="tiny", lr_milestones=[4, 6]),
    }
    model = tiny_model()
    load_pretrained(model, saved(tmp_path, content, _use_new_zipfile_serialization=zip_file))
    assert same_encoder(model, other_encoder)


def test_weights_of_another_backbone_are_refused_by_name(tmp_path):
    path = saved(tmp_path, build_backbone("r3d_18").state_dict())
    with pytest.raises(ConfigError, match=r"does not fit the backbone: .* missing, .* unexpected.*--backbone"):
        load_pretrained(tiny_model(), path)


def test_a_tensor_of_another_shape_is_refused_by_name(tmp_path, other_encoder):
    other_encoder["layer1.0.weight"] = torch.zeros(1, 2, 3, 4, 5)
    with pytest.raises(ConfigError, match=r"layer1.0.weight has shape \[1, 2, 3, 4, 5\]"):
        load_pretrained(tiny_model(), saved(tmp_path, other_encoder))


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zip_file", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, zip_file):
    marker = tmp_path / "ran"
    path = saved(tmp_path, {"model": {}, "args": RunsCode(marker)}, _use_new_zipfile_serialization=zip_file)
    with pytest.raises(ConfigError, match=r"refused.*could run code"):
        read_file(path)
    assert not marker.exists()


@pytest.mark.parametrize("kept_share", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path, other_encoder, kept_share):
    path = saved(tmp_path, other_encoder)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept_share)])
    with pytest.raises(ConfigError, match=str(path)):
        read_file(path)


def test_a_file_that_holds_no_mapping_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="contains a Tensor"):
        read_file(saved(tmp_path, torch.zeros(3)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no file .*nowhere\.pth"):
        read_file(tmp_path / "nowhere.pth")


def test_a_checkpoint_of_other_heads_says_how_to_use_its_encoder_alone():
    two_heads = TspModel(
        "tiny",
        [HeadSpec(label_column="action-label", num_classes=3), HeadSpec(label_column="region", num_classes=2)],
    )
    with pytest.raises(ConfigError, match=r"epoch_3\.pth was made by another model .*--pretrained"):
        load_model_state(tiny_model(), two_heads.state_dict(), where="epoch_3.pth")


@pytest.mark.parametrize("name", BACKBONES)
def test_an_encoder_is_recognised_by_its_weights(name):
    with torch.device("meta"):
        assert recognise(build_backbone(name).state_dict(), where="a file") == name


def test_the_tiny_encoder_is_recognised_without_what_takes_seconds_to_import(other_encoder, monkeypatch):
    monkeypatch.setattr(backbone, "_BUILDERS", {"tiny": backbone.TinyEncoder})
    assert recognise(other_encoder, where="a file") == "tiny"
