"""Memory that is computed without a card: the bytes of a real step, and those that were measured elsewhere."""

import pytest
import torch

from benchmarks.step_memory import (
    RESERVED_SHARE,
    WORKSPACE_MIB,
    Cost,
    WatchedStepper,
    computed,
    cost_of,
    live_bytes_of,
    without_values,
)
from benchmarks.step_variants import Shape, Variant, make_model, random_batch, stepper_of

CPU = torch.device("cpu")
SHAPE = Shape(batch=4, frames=8, side_px=64)
CLIP_MIB = 16 * 112 * 112 * 3 * 4 / 2**20


def bytes_of(variant, *, real):
    model, numerics = make_model("tiny", variant, CPU)
    if real:
        batch = random_batch(SHAPE, CPU, torch.channels_last_3d)
        return live_bytes_of(stepper_of(model, SHAPE.batch, variant, numerics, WatchedStepper), batch)
    with without_values(model):
        batch = random_batch(SHAPE, CPU, torch.channels_last_3d)
        return live_bytes_of(stepper_of(model, SHAPE.batch, variant, numerics, WatchedStepper), batch)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("precision", "within"), [("fp32", 0.0), ("bf16", 0.005), ("fp16", 0.005)])
def test_a_simulated_step_holds_the_bytes_of_a_real_one(precision, within, recompute):
    variant = Variant("", precision, recompute=recompute)
    peak, kept = bytes_of(variant, real=True)
    assert bytes_of(variant, real=False) == (pytest.approx(peak, rel=within), pytest.approx(kept, rel=within))
    assert peak > kept > 0


def test_what_is_kept_is_what_the_backward_pass_was_promised():
    variant = Variant("", trains_stem=True)
    model, numerics = make_model("tiny", variant, CPU)
    batch = random_batch(SHAPE, CPU, torch.channels_last_3d)
    stepper = stepper_of(model, SHAPE.batch, variant, numerics, WatchedStepper)
    own = {
        item.untyped_storage().data_ptr() for item in (*model.parameters(), *model.buffers(), batch.clips, batch.gvf)
    }
    saved = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _, loss, _ = stepper._forward(batch)
    promised = sum(size for pointer, size in saved.items() if pointer not in own)
    del loss
    _, kept = live_bytes_of(stepper, batch)
    assert kept == pytest.approx(promised, rel=0.02)


@pytest.mark.thorough
@pytest.mark.parametrize(("precision", "activations_mib"), [("fp32", 763), ("bf16", 382)])
def test_the_largest_encoder_keeps_what_was_measured(precision, activations_mib):
    cost = computed("r2plus1d_34", Variant("", precision, trains_stem=True))
    assert cost.kept_mib + (CLIP_MIB if precision == "fp32" else 0) == pytest.approx(activations_mib, rel=0.005)


def test_the_largest_batch_is_what_is_left_of_a_card_by_what_a_clip_takes():
    cost = cost_of(lambda batch: ((100 + 50 * batch) << 20, (30 * batch) << 20), (2, 6), extra_mib=WORKSPACE_MIB)
    assert cost == Cost(100 + WORKSPACE_MIB, 50, 30)
    assert cost.of_batch(32) == 100 + WORKSPACE_MIB + 1600
    assert cost.largest_batch(8) == int((8192 * (1 - RESERVED_SHARE) - 100 - WORKSPACE_MIB) / 50)
    assert Cost(9000, 50, 30).largest_batch(8) == 0
