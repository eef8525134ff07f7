"""One step: it learns, it repeats itself, and it never takes a step that is not finite."""

import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tsp.config.cards import Card
from tsp.config.run import HeadConfig, ModelConfig, OptimConfig, ScheduleConfig
from tsp.config.sizing import EffectiveSizes
from tsp.errors import ConfigError
from tsp.model.device import card_of, choose_device
from tsp.model.heads import HeadSpec, TspModel
from tsp.model.recompute import recompute_blocks
from tsp.train.batches import DeviceBatch
from tsp.train.distributed import AGREE_SEC, Group, RankEnv
from tsp.train.precision import Numerics, choose_numerics
from tsp.train.schedule import build_optimizer, build_scheduler
from tsp.train.step import GPU_DELAY_STEPS, STOP_AFTER_SEC, Stepper

CPU = torch.device("cpu")
SIZES = EffectiveSizes(
    downscale=1, world_size=1, batch_per_gpu=6, global_batch=6, backbone_lr=0.05, head_lr=0.05, stem_lr=0.0
)
HEADS = (HeadConfig(label_column="action-label", labels="a.json"), HeadConfig(label_column="region", labels="r.json"))


def model_config(**changes):
    return ModelConfig(backbone="tiny", heads=HEADS, pretrained="none", **changes)


def make_stepper(*, seed=0, recompute=False, precision="fp32", weights=(1.0, 1.0)):
    torch.manual_seed(seed)
    specs = [HeadSpec(label_column="action-label", num_classes=3), HeadSpec(label_column="region", num_classes=2)]
    model = TspModel("tiny", specs)
    numerics = Numerics(device=CPU, precision=precision)
    numerics.prepare(model)
    if recompute:
        recompute_blocks(model.features)
    return stepper_of(model, numerics, weights)


def stepper_of(model, numerics, weights=(1.0, 1.0)):
    optimizer = build_optimizer(model, SIZES, OptimConfig())
    scheduler = build_scheduler(optimizer, ScheduleConfig(warmup_epochs=0), num_steps=1000)
    group = Group(RankEnv(), numerics.device)
    return Stepper(model, optimizer, scheduler, loss_weights=weights, numerics=numerics, group=group)


def make_batch(seed=0, labelled=True):
    generator = torch.Generator().manual_seed(seed)
    action = torch.arange(6) % 3 if labelled else torch.full((6,), -1)
    targets = torch.stack([action, torch.arange(6) % 2], dim=1)
    names = tuple(f"video_{number}.mp4 at 1.000 s" for number in range(6))
    return DeviceBatch(torch.randn(6, 3, 8, 32, 32, generator=generator), None, targets, names, 0)


def make_small_batch():
    """For many steps in fp16, which a CPU convolves ten times as slowly."""
    batch = make_batch()
    return dataclasses.replace(batch, clips=batch.clips[..., :12, :12].contiguous())


def weights_of(stepper):
    return {name: value.clone() for name, value in stepper.model.state_dict().items()}


def parameters_of(stepper):
    return {name: value.detach().clone() for name, value in stepper.model.named_parameters()}


def test_one_batch_is_learnt_by_heart():
    stepper, batch = make_stepper(), make_batch()
    losses = [stepper(step, batch, stop=False)[0].loss for step in range(30)]
    assert losses[0] > 1.5
    assert losses[-1] < 0.05


def test_the_same_seed_gives_the_same_losses_and_weights():
    def trained():
        stepper = make_stepper(seed=3)
        losses = [stepper(step, make_batch(step), stop=False)[0].loss for step in range(4)]
        return losses, weights_of(stepper)

    (losses, weights), (losses_again, weights_again) = trained(), trained()
    assert losses == losses_again
    assert all(torch.equal(value, weights_again[name]) for name, value in weights.items())


def test_a_frozen_stem_keeps_its_weights_while_its_statistics_move():
    stepper = make_stepper()
    before = weights_of(stepper)
    stepper(0, make_batch(), stop=False)
    after = weights_of(stepper)
    assert torch.equal(before["features.stem.0.weight"], after["features.stem.0.weight"])
    assert not torch.equal(before["features.stem.1.running_mean"], after["features.stem.1.running_mean"])
    assert not torch.equal(before["features.layer1.0.weight"], after["features.layer1.0.weight"])


def test_recomputed_activations_give_the_same_weights_and_statistics_to_the_bit():
    plain, sparing = make_stepper(), make_stepper(recompute=True)
    for step in range(3):
        plain(step, make_batch(step), stop=False)
        sparing(step, make_batch(step), stop=False)
    after = weights_of(sparing)
    assert all(torch.equal(value, after[name]) for name, value in weights_of(plain).items())


def test_recomputing_keeps_fewer_activations():
    from tsp.model.backbone import build_backbone

    def kept_bytes(recompute):
        torch.manual_seed(0)
        features = build_backbone("tiny")
        if recompute:
            recompute_blocks(features)
        kept = []

        def keep(tensor):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features(torch.randn(2, 3, 16, 64, 64))
        return sum(kept)

    assert kept_bytes(True) < 0.7 * kept_bytes(False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_changes_no_parameter_and_is_reported_with_the_clips(value):
    stepper = make_stepper()
    stepper(0, make_batch(), stop=False)
    before = parameters_of(stepper)
    momentum = [state["momentum_buffer"].clone() for state in stepper.optimizer.state.values()]
    batch = make_batch(1)
    batch.clips[2] = value
    (report,) = stepper(1, batch, stop=False)
    assert (report.step, report.bad_here, report.bad_anywhere) == (1, True, True)
    assert report.names == batch.names
    assert all(torch.equal(value, before[name]) for name, value in parameters_of(stepper).items())
    after = [state["momentum_buffer"] for state in stepper.optimizer.state.values()]
    assert all(torch.equal(one, other) for one, other in zip(momentum, after, strict=True))


class AddsInfinity(torch.autograd.Function):
    @staticmethod
    def forward(context, loss):
        return loss + float("inf")

    @staticmethod
    def backward(context, gradient):
        return gradient


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_infinite_loss_with_finite_gradients_changes_no_parameter(monkeypatch, precision):
    stepper = make_stepper(precision=precision)
    before = parameters_of(stepper)
    monkeypatch.setattr("tsp.train.step.total_loss", lambda losses, _: AddsInfinity.apply(losses[0] + losses[1]))
    (report,) = stepper(0, make_batch(labelled=True), stop=False)
    assert report.loss == float("inf")
    assert report.bad_anywhere
    assert all(torch.equal(value, before[name]) for name, value in parameters_of(stepper).items())


def test_a_gradient_that_is_not_finite_under_a_finite_loss_changes_no_parameter():
    stepper = make_stepper()
    before = parameters_of(stepper)
    stepper.model.fc1.weight.register_hook(lambda gradient: gradient * float("inf"))
    (report,) = stepper(0, make_batch(), stop=False)
    assert (report.bad_here, report.bad_anywhere) == (False, True)
    assert all(torch.equal(value, before[name]) for name, value in parameters_of(stepper).items())


def test_no_state_is_saved_while_a_pending_report_is_of_a_gradient_that_is_not_finite(monkeypatch):
    # On a GPU reports are read some steps late.
    stepper = make_stepper()
    monkeypatch.setattr(stepper, "_delay", GPU_DELAY_STEPS)
    assert stepper(0, make_batch(), stop=False) == []
    assert not stepper.is_going_wrong()
    stepper.model.fc1.weight.register_hook(lambda gradient: gradient * float("inf"))
    assert stepper(1, make_batch(), stop=False) == []
    assert stepper.is_going_wrong()
    assert [report.bad_anywhere for report in stepper.flush()] == [False, True]
    assert not stepper.is_going_wrong()


def test_fp16_scales_its_loss_down_when_a_gradient_overflows_and_goes_on():
    stepper = make_stepper(precision="fp16")
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before, reports, scales = parameters_of(stepper), [], []
    for step in range(40):
        scales.append(stepper.scaler.get_scale())
        reports += stepper(step, make_small_batch(), stop=False)
        if any(not torch.equal(value, before[name]) for name, value in parameters_of(stepper).items()):
            break
        assert stepper.scaler.get_scale() == scales[-1] / 2
    assert len(scales) > 5, "nothing has overflowed"
    assert stepper.scaler.get_scale() == scales[-1]
    assert not any(report.bad_anywhere for report in reports)
    assert all(value.isfinite().all() for value in parameters_of(stepper).values())


def test_fp16_does_not_skip_steps_for_ever():
    stepper = make_stepper(precision="fp16")
    before = parameters_of(stepper)
    stepper.model.fc1.weight.register_hook(lambda gradient: gradient * float("nan"))
    for step in range(40):
        (report,) = stepper(step, make_small_batch(), stop=False)
        if report.bad_anywhere:
            break
    assert (report.bad_here, report.step) == (False, 26)  # 2^16 is halved to below 2^-10
    assert all(torch.equal(value, before[name]) for name, value in parameters_of(stepper).items())


def test_a_first_step_that_is_masked_leaves_no_momentum(monkeypatch):
    # What torch would take for it: memory that holds anything.
    monkeypatch.setattr(torch, "empty_like", lambda tensor, **options: torch.full_like(tensor, 1e30, **options))
    stepper, fresh = make_stepper(), make_stepper()
    batch = make_batch(1)
    batch.clips[2] = float("nan")
    statistics = {name: value.clone() for name, value in stepper.model.named_buffers()}
    assert stepper(0, batch, stop=False)[0].bad_anywhere
    for name, value in stepper.model.named_buffers():
        value.copy_(statistics[name])
    stepper(1, make_batch(), stop=False)
    fresh.scheduler.move_to(1)
    fresh(1, make_batch(), stop=False)
    assert all(torch.equal(value, parameters_of(fresh)[name]) for name, value in parameters_of(stepper).items())


def test_a_head_without_labels_in_the_batch_does_not_move_by_its_loss():
    stepper = make_stepper()
    (report,) = stepper(0, make_batch(labelled=False), stop=False)
    assert not report.bad_anywhere
    assert torch.equal(stepper.model.fc1.bias, torch.zeros(3))
    assert not torch.equal(stepper.model.fc2.bias, torch.zeros(2))


def test_being_told_to_stop_is_reported():
    stepper = make_stepper()
    assert [stepper(0, make_batch(), stop=stop)[0].stop_anywhere for stop in (False, True)] == [False, True]


def test_a_step_may_take_as_long_as_a_lost_peer_shows_and_three_times_the_longest_that_was_usual(monkeypatch):
    """The first ones may compile for minutes, which says nothing of the others."""
    stepper, batch, clock, limits = make_stepper(), make_batch(), SimpleNamespace(sec=1000.0), []

    def waiting(what, limit_sec, *, stop_after_sec):
        limits.append((limit_sec, stop_after_sec))
        return nullcontext()

    zero = torch.zeros(())
    monkeypatch.setattr(stepper, "_forward", lambda batch: ([zero], zero, zero))
    monkeypatch.setattr(stepper, "_backward", lambda loss, is_bad: None)
    monkeypatch.setattr(stepper, "_update", lambda is_bad: (zero, zero, zero))
    monkeypatch.setattr(stepper.scheduler, "step", lambda: None)
    monkeypatch.setattr("tsp.train.step.time", SimpleNamespace(monotonic=lambda: clock.sec))
    monkeypatch.setattr(stepper.group, "waiting", waiting)
    monkeypatch.setattr(stepper, "_read_reports", lambda *, keep: setattr(clock, "sec", clock.sec + durations.pop(0)))
    durations = [100.0, 100.0, 100.0, 2.0, 5.0, 1.0, 1.0]
    for step in range(len(durations)):
        stepper(step, batch, stop=False)
    peer_sec = stepper.group.peer_sec
    usual = [(peer_sec + extra_sec, STOP_AFTER_SEC + extra_sec) for extra_sec in (6.0, 15.0, 15.0)]
    assert limits == [(AGREE_SEC, STOP_AFTER_SEC)] * 4 + usual


def test_bf16_learns_too():
    stepper, batch = make_stepper(precision="bf16"), make_batch()
    losses = [stepper(step, batch, stop=False)[0].loss for step in range(20)]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"precision": "fp16"}, "fp16 needs a GPU"), ({"sync_batch_norm": True}, "sync_batch_norm needs GPUs")],
)
def test_what_a_cpu_cannot_do_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        choose_numerics(CPU, model_config(**changes), [])


@pytest.mark.parametrize(("precision", "warned"), [("bf16", True), ("fp32", False), ("auto", False)])
def test_bf16_on_a_cpu_is_said_to_be_for_trying_out(caplog, precision, warned):
    choose_numerics(CPU, model_config(precision=precision), [])
    assert any("bf16 on a CPU is experimental" in line for line in caplog.messages) is warned


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_bf16_and_statistics_of_all_ranks_are_nothing_to_warn_of_on_a_gpu(caplog, precision):
    config = model_config(precision=precision, sync_batch_norm=True)
    numerics = choose_numerics(
        torch.device("cuda"), config, [Card(name="NVIDIA A100-SXM4-80GB", memory_mib=81920, compute=(8, 0))]
    )
    assert (numerics.precision, numerics.device, caplog.messages) == ("bf16", torch.device("cuda"), [])


def test_auto_is_fp32_on_the_cpu():
    assert choose_numerics(CPU, model_config(), []).precision == "fp32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_rank_without_a_gpu_of_its_own_is_refused():
    with pytest.raises(ConfigError, match="LOCAL_RANK"):
        choose_device(99)


def without_values(stepper):
    """The same stepper over tensors that have shapes but no values: what would wait for a GPU fails."""
    mode = FakeTensorMode()
    for module in stepper.model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({name: mode.from_tensor(value) for name, value in tensors.items() if value is not None})
    with mode:
        fake = stepper_of(stepper.model, stepper.numerics)
    fake._delay = GPU_DELAY_STEPS + 3
    return mode, fake


def four_steps(mode, stepper):
    with mode:
        batch = make_batch()
        batch = DeviceBatch(torch.empty_like(batch.clips), None, torch.empty_like(batch.targets), batch.names, 0)
        for step in range(4):
            assert stepper(step, batch, stop=False) == []


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_asks_for_no_value_of_the_device(precision, recompute):
    mode, stepper = without_values(make_stepper(precision=precision, recompute=recompute))
    four_steps(mode, stepper)
    with pytest.raises(DataDependentOutputException):
        stepper.flush()


@pytest.mark.parametrize(
    "ask", [lambda tensor: tensor.item(), bool, float, lambda tensor: tensor.tolist(), lambda tensor: tensor.nonzero()]
)
@pytest.mark.parametrize("method", ["_forward", "_update", "_send_report"])
def test_a_step_that_did_would_be_noticed(monkeypatch, method, ask):
    real = getattr(Stepper, method)

    def curious(self, *args):
        ask(next(iter(self.model.parameters())).sum())
        return real(self, *args)

    monkeypatch.setattr(Stepper, method, curious)
    mode, stepper = without_values(make_stepper())
    with pytest.raises(RuntimeError):
        four_steps(mode, stepper)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_never_waits_for_the_gpu():
    torch.manual_seed(0)
    device = choose_device(0)
    specs = [HeadSpec(label_column="action-label", num_classes=3), HeadSpec(label_column="region", num_classes=2)]
    model = TspModel("tiny", specs)
    numerics = choose_numerics(device, model_config(), [card_of(device)])
    numerics.prepare(model)
    optimizer = build_optimizer(model, SIZES, OptimConfig())
    scheduler = build_scheduler(optimizer, ScheduleConfig(), num_steps=1000)
    group = Group(RankEnv(), device)
    stepper = Stepper(model, optimizer, scheduler, loss_weights=(1.0, 1.0), numerics=numerics, group=group)
    batch = make_batch()
    batch = DeviceBatch(batch.clips.cuda(), None, batch.targets.cuda(), batch.names, 0)
    for step in range(3):
        stepper(step, batch, stop=False)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3, 6):
            stepper(step, batch, stop=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(stepper.flush()) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("first", [True, False])
def test_a_masked_step_changes_neither_weights_nor_momentum_on_a_gpu(first):
    device = choose_device(0)
    model = TspModel("tiny", make_stepper().model.heads)
    numerics = Numerics(device=device, precision="fp32")
    numerics.prepare(model)
    stepper = stepper_of(model, numerics)

    def batch_of(seed):
        batch = make_batch(seed)
        return DeviceBatch(batch.clips.to(device), None, batch.targets.to(device), batch.names, 0)

    if not first:
        stepper(0, batch_of(0), stop=False)
    before = parameters_of(stepper)
    momentum = [state["momentum_buffer"].clone() for state in stepper.optimizer.state.values()]
    bad = batch_of(1)
    bad.clips[2] = float("nan")
    stepper(1, bad, stop=False)
    assert stepper.flush()[-1].bad_anywhere
    assert all(torch.equal(value, before[name]) for name, value in parameters_of(stepper).items())
    after = [state["momentum_buffer"] for state in stepper.optimizer.state.values()]
    assert all(torch.equal(one, other) for one, other in zip(momentum, after, strict=True))
