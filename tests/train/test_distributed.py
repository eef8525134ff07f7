"""Several ranks: meeting, agreeing, training together, and losing one of them."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from tests.s3_servers import free_port
from tests.train.worlds import config_for, final_weights, on_ranks, run_of, same_weights, train_here, train_rank
from tsp.data.loader import build_loader
from tsp.data.transforms import pixels_on_device
from tsp.errors import ConfigError, PeerLostError
from tsp.model.device import choose_device
from tsp.train.attempt import train
from tsp.train.distributed import Group, RankEnv, lost_peers
from tsp.train.rendezvous import join
from tsp.train.stop_signal import Stop
from tsp.train.training_state import build_model

CPU = torch.device("cpu")


def test_the_launch_is_read_from_the_operators_variables():
    env = {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "run-master-0", "MASTER_PORT": "23456"}
    launch = RankEnv.from_env(env)
    assert launch == RankEnv(rank=2, world_size=3, local_rank=0, master_addr="run-master-0", master_port=23456)
    assert RankEnv.from_env({}) == RankEnv(rank=0, world_size=1)


@pytest.mark.parametrize("env", [{"RANK": "one"}, {"RANK": "3", "WORLD_SIZE": "3"}, {"RANK": "-1"}])
def test_a_launch_that_cannot_be_is_refused(env):
    with pytest.raises(ConfigError, match="RANK"):
        RankEnv.from_env(env)


@pytest.mark.parametrize(
    "message",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:6743",
        "NCCL communicator was aborted on rank 1.",
        "Timed out waiting 1800000ms for recv operation to complete",
    ],
)
def test_the_ways_in_which_torch_reports_a_lost_rank_are_known(message):
    with pytest.raises(PeerLostError), lost_peers("making step 3"):
        raise RuntimeError(message)


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="shape mismatch"), lost_peers("making step 3"):
        raise RuntimeError("shape mismatch")


def format_of_rank(launch, config):
    """The number format that a rank trains with when rank 0 has a T4 and rank 1 an H100."""
    from tsp.config.cards import Card
    from tsp.train import agreement

    cards = [
        Card(name="Tesla T4", memory_mib=15360, compute=(7, 5)),
        Card(name="NVIDIA H100", memory_mib=81559, compute=(9, 0)),
    ]
    agreement.card_of = lambda device: cards[launch.rank]
    group = join(launch, CPU, Stop())
    sizes, numerics = agreement.agree(config, group)
    group.leave()
    return numerics.precision, sizes.downscale


def test_ranks_with_different_cards_share_one_number_format(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, gpus=2)
    assert on_ranks(2, format_of_rank, config) == [(("fp16", 2), None)] * 2
    asked = config_for(tiny_data, tmp_path, gpus=2, model__precision="bf16")
    for _, error in on_ranks(2, format_of_rank, asked):
        assert error.startswith("ConfigError: --precision bf16: the Tesla T4")


def two_ranks_by_hand(config):
    """Plain SGD on the mean gradient of two ranks' batches; statistics are rank 0's."""
    loaders = [build_loader(config, "train", batch=4, rank=rank, world_size=2) for rank in range(2)]
    model = build_model(config.model, loaders[0].data.num_classes, seed=config.seed)
    stem = {id(parameter) for parameter in model.features.stem.parameters()}
    parameters = [parameter for parameter in model.parameters() if id(parameter) not in stem]
    momentum = [torch.zeros_like(parameter) for parameter in parameters]
    for batches in zip(*loaders, strict=True):
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        before = {name: value.clone() for name, value in model.named_buffers()}
        for batch in reversed(batches):  # rank 0 last, so that its statistics stay
            for name, value in model.named_buffers():
                value.copy_(before[name])
            outputs = model(pixels_on_device(batch, CPU), batch.gvf)
            loss = sum(
                functional.cross_entropy(logits[target != -1], target[target != -1])
                for logits, target in zip(outputs, batch.targets.unbind(1), strict=True)
                if (target != -1).any()
            )
            for total, gradient in zip(
                gradients, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
            ):
                total += 0 if gradient is None else gradient / 2
        with torch.no_grad():
            for parameter, gradient, velocity in zip(parameters, gradients, momentum, strict=True):
                velocity.mul_(0.9).add_(gradient + 0.005 * parameter)
                parameter -= 0.04 * velocity
    return model.state_dict()


def test_two_ranks_train_on_the_mean_gradient_with_doubled_rates_and_rank_0s_statistics(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, schedule__epochs=1, schedule__warmup_epochs=0, gpus=2)
    assert on_ranks(2, train_rank, config) == [(None, None)] * 2
    run = run_of(config)
    assert (run.effective().backbone_lr, run.effective().global_batch) == (0.04, 8)
    weights, expected = final_weights(run, 0), two_ranks_by_hand(config)
    for name, value in expected.items():
        assert torch.allclose(weights[name], value, rtol=1e-3, atol=2e-5), name


def stop_rank(launch, config, after):
    """Rank 1 alone hears SIGTERM, while making a step."""
    stop = Stop()
    stop.install()
    if launch.rank == 1:
        from tsp.train.step import Stepper

        steps = []
        real = Stepper.__call__

        def step(self, number, batch, *, stop):
            steps.append(number)
            if len(steps) == after:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(self, number, batch, stop=stop)

        Stepper.__call__ = step
    train(config, launch, stop, log_into=lambda run, attempt: None)


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("world_size", [3])
def test_ranks_stop_together_when_one_is_told_to_and_go_on_to_the_same_weights(tiny_data, tmp_path, world_size):
    changes = {"gpus": world_size, "batch_per_gpu": 2, "schedule__epochs": 2}
    straight = config_for(tiny_data, tmp_path / "straight", **changes)
    assert on_ranks(world_size, train_rank, straight) == [(None, None)] * world_size
    stopped = config_for(tiny_data, tmp_path / "stopped", **changes)
    found = on_ranks(world_size, stop_rank, stopped, 2)
    assert all(error.startswith("TerminatedError") for _, error in found), found
    meta = run_of(stopped).latest_state()
    assert (meta.epoch, meta.step) == (0, 3)
    assert on_ranks(world_size, train_rank, stopped) == [(None, None)] * world_size
    assert run_of(stopped).results() == run_of(straight).results()
    for epoch in range(2):
        assert same_weights(final_weights(run_of(stopped), epoch), final_weights(run_of(straight), epoch))


def fail_rank(launch, config):
    """Rank 1 alone meets a loss that is not finite."""
    if launch.rank == 1:
        from tsp.train.step import Stepper

        real = Stepper._forward

        def forward(self, batch):
            losses, loss, is_bad = real(self, batch)
            return losses, loss * float("nan"), torch.ones_like(is_bad)

        Stepper._forward = forward
    train_rank(launch, config)


def test_a_loss_that_is_not_finite_on_one_rank_ends_all_with_its_clips(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, gpus=2)
    found = on_ranks(2, fail_rank, config)
    assert found[0][1] == found[1][1]
    assert found[0][1].startswith("NonFiniteLossError: the loss is nan in epoch 0, step 0 (rank 1)")
    assert ".mp4 at " in found[0][1]


def break_rank(launch, config):
    """Rank 1 alone cannot read its clips."""
    if launch.rank == 1:
        from tsp.data.dataset import ClipDataset
        from tsp.errors import DataError

        def fail(self, items):
            raise DataError("train_0.mp4 is not to be read")

        ClipDataset._read_batch = fail
    train_rank(launch, config)


def test_rank_0_says_why_another_rank_failed_for_good(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, gpus=2)
    found = on_ranks(2, break_rank, config)
    assert found[0][1] == "FailedElsewhereError: rank 1: train_0.mp4 is not to be read"
    assert found[1][1] == "DataError: train_0.mp4 is not to be read"
    outcome = run_of(config).read_outcome()
    assert (outcome.state, outcome.exit_code) == ("failed", 3)


def vanish_rank(launch, config):
    """Rank 1 alone is killed."""
    if launch.rank == 1:
        from tsp.train.step import Stepper

        Stepper._backward = lambda self, loss, is_bad: os._exit(9)
    else:
        train_rank(launch, config)
        return
    train_rank(launch, config)


def test_a_rank_that_vanishes_is_a_lost_peer(tiny_data, tmp_path):
    import multiprocessing

    from tests.train.worlds import _rank_main

    config = config_for(tiny_data, tmp_path, gpus=2)
    context = multiprocessing.get_context("forkserver")
    answers, port = context.Queue(), free_port()
    launches = [RankEnv(rank=rank, world_size=2, master_port=port) for rank in range(2)]
    processes = [context.Process(target=_rank_main, args=(vanish_rank, each, (config,), answers)) for each in launches]
    for process in processes:
        process.start()
    rank, _, error = answers.get(timeout=900)
    for process in processes:
        process.join(900)
    assert rank == 0
    assert error.startswith("PeerLostError")
    assert run_of(config).read_outcome() is None


def test_another_world_size_goes_on_with_the_same_share_of_the_epoch_done(tiny_data, tmp_path, caplog):
    config = config_for(tiny_data, tmp_path, gpus=2, schedule__epochs=1, batch_per_gpu=2)
    found = on_ranks(2, stop_rank, config, 2)
    assert all(error.startswith("TerminatedError") for _, error in found), found
    meta = run_of(config).latest_state()
    assert meta.step == 3  # of 4 steps of 4 clips
    run = train_here(config)
    assert "continues at step 6 of 8 with a global batch of 2" in caplog.text
    assert list(run.results()) == [0]


@pytest.fixture(scope="module")
def plain_weights(tiny_data, make_once):
    """Weights after an epoch of that many ranks, without any option."""

    def get(world_size):
        def train(store):
            config = config_for(tiny_data, store, gpus=world_size, schedule__epochs=1)
            assert on_ranks(world_size, train_rank, config) == [(None, None)] * world_size

        store = make_once(f"plain-run-of-{world_size}", train)
        return final_weights(run_of(config_for(tiny_data, store)), 0)

    return get


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("changes", [{"model__gradients": "bf16"}, {"model__conv2d": "all"}])
def test_options_that_round_otherwise_train_to_nearly_the_same_weights(tiny_data, tmp_path, plain_weights, changes):
    other = config_for(tiny_data, tmp_path / "other", gpus=2, schedule__epochs=1, **changes)
    assert on_ranks(2, train_rank, other) == [(None, None)] * 2
    weights, expected = final_weights(run_of(other), 0), plain_weights(2)
    assert list(weights) == list(expected)
    for name, value in expected.items():
        assert torch.allclose(weights[name].float(), value.float(), rtol=0.05, atol=5e-3), name
    if "model__gradients" in changes:
        assert not same_weights(weights, expected), "nothing was rounded"


def overlap_rank(launch, config):
    """What happens in a backward pass, in order: gradients that are there, buckets that are sent."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    device = choose_device(0)
    group = join(launch, device, Stop())
    events = []

    def send(state, bucket):
        events.append("bucket")
        return allreduce_hook(None, bucket)

    model = build_model(config.model, [3, 2], seed=0)
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda gradient, name=name: events.append(name))
    network = group.wrap(model)
    network.register_comm_hook(None, send)
    sum(item.sum() for item in network(torch.randn(2, 3, 8, 32, 32), torch.randn(2, 512))).backward()
    group.leave()
    return events


def test_gradients_are_sent_while_others_are_still_computed(tiny_data, tmp_path):
    for events, error in on_ranks(2, overlap_rank, config_for(tiny_data, tmp_path)):
        assert error is None
        assert events.count("bucket") == 2
        assert events.index("bucket") < events.index("features.layer1.0.weight")


def statistics_after_a_step(launch, config):
    """What a rank's running means, set to its number, are after a forward pass in training."""
    group = join(launch, CPU, Stop())
    model = build_model(config.model, [3, 2], seed=0)
    means = [value for name, value in model.named_buffers() if name.endswith("running_mean")]
    for value in means:
        value.fill_(10.0 * launch.rank)
    group.wrap(model)(torch.randn(2, 3, 8, 32, 32), torch.randn(2, 512))
    group.leave()
    return [value.mean().item() for value in means]


def test_no_rank_is_sent_the_others_statistics_before_a_step(tiny_data, tmp_path):
    found = on_ranks(2, statistics_after_a_step, config_for(tiny_data, tmp_path))
    assert [error for _, error in found] == [None, None]
    for rank, (means, _) in enumerate(found):
        assert means == pytest.approx([10.0 * rank] * len(means), abs=4), "rank 0's would be near 0"


def compiled_rank(launch, config):
    """Trains with a compiler that only traces; returns what is compiled."""
    from functools import partial

    import tsp.train.loop

    torch.compile = partial(torch.compile, backend="aot_eager")
    real, found = tsp.train.loop.build_training_state, []

    def build(*args, **options):
        parts = real(*args, **options)
        found.append(type(parts.stepper.model._orig_mod).__name__)
        return parts

    tsp.train.loop.build_training_state = build
    train_rank(launch, config)
    return found


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize(("world_size", "compiled"), [(1, "TspModel"), (2, "DistributedDataParallel")])
def test_a_compiled_model_trains_to_the_same_weights_its_gradients_still_overlapped(
    tiny_data, tmp_path, plain_weights, world_size, compiled
):
    config = config_for(tiny_data, tmp_path, model__compile=True, gpus=world_size, schedule__epochs=1)
    assert on_ranks(world_size, compiled_rank, config) == [([compiled], None)] * world_size
    weights, expected = final_weights(run_of(config), 0), plain_weights(world_size)
    assert list(weights) == list(expected)
    for name, value in expected.items():
        assert torch.allclose(weights[name], value, rtol=1e-4, atol=1e-6), name


class Collective:
    """A started one that is done after a number of looks."""

    def __init__(self, looks):
        self.looks, self.waited_for = looks, False

    def get_future(self):
        return self

    def done(self):
        self.looks -= 1
        return self.looks < 0

    def wait(self):
        self.waited_for = True


@pytest.mark.parametrize(("device", "looks", "checks"), [("cpu", 3, 3), ("cpu", 0, 0), ("cuda", 3, 0)])
def test_a_rank_that_waits_on_its_cpu_looks_whether_the_others_still_live(device, looks, checks):
    checked, work = [], Collective(looks)
    ranks = SimpleNamespace(device=torch.device(device), watchdog=SimpleNamespace(check=lambda: checked.append(1)))
    Group.finish(ranks, work)
    assert (len(checked), work.waited_for) == (checks, True)


def test_a_peer_that_is_lost_meanwhile_ends_the_wait():
    def check():
        raise PeerLostError("gone")

    work = Collective(10**9)
    with pytest.raises(PeerLostError):
        Group.finish(SimpleNamespace(device=torch.device("cpu"), watchdog=SimpleNamespace(check=check)), work)
    assert not work.waited_for
