"""Heads and losses: names, widths, initial values, clips without a label."""

import pytest
import torch
from torch.nn import functional

from tsp.errors import ConfigError
from tsp.model.heads import HeadSpec, TspModel
from tsp.model.losses import head_loss, total_loss

ACTION = HeadSpec(label_column="action-label", num_classes=5)
REGION = HeadSpec(label_column="temporal-region-label", num_classes=2)
REGION_GVF = HeadSpec(label_column="temporal-region-label", num_classes=2, sees_gvf=True)


@pytest.mark.parametrize(
    ("heads", "shapes"),
    [
        ((ACTION,), {"fc.weight": (5, 512), "fc.bias": (5,)}),
        ((REGION,), {"fc.weight": (2, 512), "fc.bias": (2,)}),
        ((REGION_GVF,), {"fc.weight": (2, 1024), "fc.bias": (2,)}),
        ((ACTION, REGION), {"fc1.weight": (5, 512), "fc1.bias": (5,), "fc2.weight": (2, 512), "fc2.bias": (2,)}),
        ((ACTION, REGION_GVF), {"fc1.weight": (5, 512), "fc1.bias": (5,), "fc2.weight": (2, 1024), "fc2.bias": (2,)}),
    ],
)
def test_heads_have_the_published_names_and_widths(heads, shapes):
    state = TspModel("tiny", heads).state_dict()
    rest = {name: tuple(value.shape) for name, value in state.items() if not name.startswith("features.")}
    assert rest == shapes


def test_heads_start_with_small_weights_and_no_bias():
    torch.manual_seed(0)
    head = TspModel("tiny", [HeadSpec(label_column="action-label", num_classes=200)]).fc
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.weight.mean().abs().item() < 1e-3
    assert head.bias.abs().max().item() == 0


def test_only_the_region_head_sees_the_global_video_feature():
    torch.manual_seed(0)
    model = TspModel("tiny", (ACTION, REGION_GVF)).eval()
    clips = torch.randn(2, 3, 8, 32, 32)
    action_a, region_a = model(clips, torch.zeros(2, 512))
    action_b, region_b = model(clips, torch.ones(2, 512))
    assert torch.equal(action_a, action_b)
    assert not torch.allclose(region_a, region_b)


def test_a_batch_without_the_global_video_feature_is_refused_where_a_head_needs_it():
    with pytest.raises(ConfigError, match="gvf"):
        TspModel("tiny", (REGION_GVF,))(torch.randn(2, 3, 8, 32, 32))


def test_the_loss_is_the_mean_over_labelled_clips_only():
    logits = torch.randn(4, 5)
    expected = functional.cross_entropy(logits[[0, 3]], torch.tensor([2, 4]))
    assert head_loss(logits, torch.tensor([2, -1, -1, 4])).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_head_without_any_label_gives_zero_and_zero_gradients_instead_of_nan():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = head_loss(logits, torch.full((3,), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 5))


def test_losses_of_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(4, 5).bfloat16()
    assert head_loss(logits, torch.zeros(4, dtype=torch.int64)).dtype == torch.float32


def test_logits_and_targets_must_have_as_many_rows():
    with pytest.raises(ValueError, match="4 rows of logits but 3 targets"):
        head_loss(torch.randn(4, 5), torch.zeros(3, dtype=torch.int64))


def test_the_total_weighs_each_head():
    assert total_loss([torch.tensor(2.0), torch.tensor(3.0)], [1.0, 0.5]).item() == 3.5


def test_a_head_of_one_class_is_refused():
    with pytest.raises(ConfigError, match="at least 2 classes"):
        HeadSpec(label_column="action-label", num_classes=1)
