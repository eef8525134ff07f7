"""Learning rates: equal to the original's, and loadable either way."""

import json
from collections import Counter

import pytest
import torch

from tests.train.original_system import WarmupMultiStepLR as OriginalSchedule
from tsp.config.run import OptimConfig, ScheduleConfig
from tsp.config.sizing import EffectiveSizes
from tsp.model.heads import HeadSpec, TspModel
from tsp.train.schedule import build_optimizer, build_scheduler, group_rates, start_momentum


def sizes(*, stem_lr=0.0, backbone_lr=1e-4, head_lr=4e-3):
    return EffectiveSizes(
        downscale=1,
        world_size=1,
        batch_per_gpu=32,
        global_batch=32,
        backbone_lr=backbone_lr,
        head_lr=head_lr,
        stem_lr=stem_lr,
    )


def model():
    heads = [HeadSpec(label_column="action-label", num_classes=3), HeadSpec(label_column="region", num_classes=2)]
    return TspModel("tiny", heads)


def make(num_steps=10, *, stem_lr=0.0):
    optimizer = build_optimizer(model(), sizes(stem_lr=stem_lr), OptimConfig())
    return optimizer, build_scheduler(optimizer, ScheduleConfig(), num_steps=num_steps)


def advance(optimizer, scheduler, count):
    for _ in range(count):
        optimizer.step()
        scheduler.step()


def test_the_backbone_rate_follows_the_golden_trace_exactly(shared_dir):
    golden = json.loads((shared_dir / "golden" / "tsp_golden.json").read_text())["lr_trace_base1e-4_10iters_8epochs"]
    optimizer, scheduler = make(num_steps=10)
    trace = []
    for _ in range(80):
        trace.append(group_rates(optimizer)["backbone"])
        advance(optimizer, scheduler, 1)
    assert trace == golden


def test_groups_are_stem_backbone_fc_and_hold_every_parameter_once_in_order():
    network = model()
    optimizer = build_optimizer(network, sizes(stem_lr=1e-3), OptimConfig())
    assert [group["name"] for group in optimizer.param_groups] == ["stem", "backbone", "fc"]
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert grouped == [id(parameter) for parameter in network.parameters()]
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-4, 4e-3]
    assert {(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.9, 0.005)}


@pytest.mark.parametrize(("stem_lr", "asks"), [(0.0, False), (1e-4, True)])
def test_the_stem_asks_for_gradients_only_if_it_learns(stem_lr, asks):
    network = model()
    build_optimizer(network, sizes(stem_lr=stem_lr), OptimConfig())
    assert {parameter.requires_grad for parameter in network.features.stem.parameters()} == {asks}
    assert all(parameter.requires_grad for parameter in network.features.layer1.parameters())


def test_no_warm_up_starts_at_the_full_rate():
    optimizer = build_optimizer(model(), sizes(), OptimConfig())
    build_scheduler(optimizer, ScheduleConfig(warmup_epochs=0), num_steps=5)
    assert group_rates(optimizer) == {"stem": 0.0, "backbone": 1e-4, "fc": 4e-3}


def test_a_resumed_schedule_goes_on_exactly():
    straight = make()
    advance(*straight, 47)
    resumed = make()
    resumed[1].load_state_dict(straight[1].state_dict())
    for _ in range(33):
        assert group_rates(resumed[0]) == group_rates(straight[0])
        advance(*resumed, 1)
        advance(*straight, 1)


def original(optimizer, milestones=None):
    return OriginalSchedule(optimizer, milestones or [40, 60], 0.01, 1e-5, 20)


@pytest.mark.parametrize("as_counter", [False, True])
def test_the_originals_schedule_loads_here(as_counter):
    their_optimizer, _ = make()
    theirs = original(their_optimizer, [30, 45, 45])
    advance(their_optimizer, theirs, 41)
    state = theirs.state_dict()
    if as_counter:
        state["milestones"] = Counter(state["milestones"])
    optimizer, scheduler = make(num_steps=3)
    scheduler.load_state_dict({**state, "verbose": False, "_some_field_of_another_torch": 1})
    assert not hasattr(scheduler, "_some_field_of_another_torch")
    for _ in range(39):
        assert group_rates(optimizer) == group_rates(their_optimizer)
        advance(optimizer, scheduler, 1)
        advance(their_optimizer, theirs, 1)


def test_our_schedule_loads_in_the_original():
    optimizer, scheduler = make()
    advance(optimizer, scheduler, 41)
    their_optimizer, _ = make()
    theirs = original(their_optimizer)
    theirs.load_state_dict(scheduler.state_dict())
    for _ in range(39):
        advance(optimizer, scheduler, 1)
        advance(their_optimizer, theirs, 1)
        assert group_rates(their_optimizer) == group_rates(optimizer)


def test_moving_the_schedule_equals_stepping_there():
    stepped, moved = make(), make()
    advance(*stepped, 25)
    moved[1].move_to(25)
    assert group_rates(moved[0]) == group_rates(stepped[0])
    assert moved[1].state_dict() == stepped[1].state_dict()


def test_the_state_is_plain_values_only():
    _, scheduler = make()
    assert json.loads(json.dumps(scheduler.state_dict()))["milestones"] == [40, 60]


def test_a_masked_step_leaves_weights_alone():
    network = model()
    optimizer = build_optimizer(network, sizes(), OptimConfig())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.grad_scale, optimizer.found_inf = None, torch.ones(())
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("stem_lr", [0.0, 1e-3])
def test_what_is_trained_starts_with_a_momentum_of_zero_and_what_is_frozen_has_none(stem_lr):
    optimizer = build_optimizer(model(), sizes(stem_lr=stem_lr), OptimConfig())
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            momentum = optimizer.state[parameter].get("momentum_buffer")
            assert (momentum is not None) == (group["name"] != "stem" or stem_lr > 0)
            assert momentum is None or not momentum.any()


def test_starting_momentum_again_changes_none_that_is_there():
    optimizer, _ = make()
    buffers = [state["momentum_buffer"].fill_(3) for state in optimizer.state.values() if state]
    start_momentum(optimizer)
    after = [state["momentum_buffer"] for state in optimizer.state.values() if state]
    assert all(one is other and (one == 3).all() for one, other in zip(buffers, after, strict=True))


def test_without_momentum_there_is_no_buffer():
    optimizer = build_optimizer(model(), sizes(), OptimConfig(momentum=0.0))
    assert not any(optimizer.state.values())
