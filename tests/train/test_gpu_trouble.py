"""A GPU that is lost or full ends a rank with the exit code that says whether to try again, wherever it surfaces."""

import pytest
import torch

from tests.train.worlds import config_for, run_of, train_here
from tsp.errors import GpuLostError, GpuMemoryError, exit_code_of

WHERE = {
    "choosing the device": "tsp.train.attempt.choose_device",
    "meeting": "tsp.train.attempt.join",
    "sharing cards": "tsp.train.agreement.card_of",
    "moving the model": "tsp.train.precision.Numerics.prepare",
    "a batch on its way": "tsp.train.batches.pixels_on_device",
    "the forward pass": "tsp.train.step.Stepper._forward",
    "the backward pass": "tsp.train.step.Stepper._backward",
    "reading a report": "tsp.train.step.Stepper._await",
    "taking a snapshot": "tsp.train.training_state.TrainingState.snapshot",
    "validation": "tsp.train.validate.Validator._forward",
}


@pytest.mark.parametrize(
    ("error", "kind", "code", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), GpuMemoryError, 6, "--downscale"),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), GpuLostError, 152, "nvidia-smi"),
    ],
)
@pytest.mark.parametrize("where", WHERE)
def test_its_exit_code_says_whether_to_try_again(tiny_data, tmp_path, monkeypatch, where, error, kind, code, words):
    def fail(*_, **__):
        raise error

    config = config_for(tiny_data, tmp_path / "store", schedule__epochs=1)
    if where != "sharing cards":  # which the advice looks at, too
        monkeypatch.setattr(WHERE[where], fail)
    else:
        monkeypatch.setattr(WHERE[where], lambda device: fail() if not monkeypatch.undo() else None)
    with pytest.raises(kind, match=words) as raised:
        train_here(config)
    assert exit_code_of(raised.value) == code
    outcome = run_of(config).read_outcome()
    if code >= 128:
        assert outcome is None
    else:
        assert (outcome.state, outcome.exit_code) == ("failed", code)
        assert words in outcome.reason
