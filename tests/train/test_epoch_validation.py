"""The validation of an epoch: how many batches it has, who is told how far it is, and when the next epoch's workers may
start; without a model."""

from types import SimpleNamespace

import pytest

from tests.train.worlds import config_for
from tsp.run.results import EpochResult
from tsp.train import epoch_validation
from tsp.train.epoch_validation import EpochValidation


@pytest.fixture
def validated(monkeypatch, tmp_path):
    """Validates so many clips in batches of four; returns the figures and what happened."""

    def validate(num_clips, num_steps, *, is_main=True):
        seen = SimpleNamespace(told=[], checked=[], asked={}, then=[])

        def validator(model, batches, *, num_batches, after_batch):
            seen.asked = {"model": model, "num_batches": num_batches}
            for done in range(1, num_steps + 1):
                before = len(seen.then)
                after_batch(done)
                if len(seen.then) > before:
                    seen.then[before:] = [done]
            return SimpleNamespace(
                result=lambda epoch, columns: EpochResult(epoch, (), 1.5, 50.0),
                classes=lambda columns, labels: (columns, labels),
            )

        loader = SimpleNamespace(
            num_steps=num_steps, dataset=range(num_clips), num_bad=2, data=SimpleNamespace(labels="the labels")
        )
        context = SimpleNamespace(
            sizes=SimpleNamespace(batch_per_gpu=4), numerics=SimpleNamespace(device="cpu"), 
            config=config_for(tmp_path, "store"),
            group=SimpleNamespace(is_main=is_main, watchdog=None, gather=lambda number: [number, 0, 5]),
            stop=SimpleNamespace(check=seen.checked.append),
        )  # fmt: skip
        reporter = SimpleNamespace(
            enter=lambda phase, **more: seen.told.append((phase, more)), advance=seen.told.append,
            leave=lambda: seen.told.append("left"),
        )  # fmt: skip
        loaders = SimpleNamespace(build=lambda subset, epoch: seen.told.append((subset, epoch)) or loader)
        monkeypatch.setattr(epoch_validation, "Validator", lambda **_: validator)
        monkeypatch.setattr(epoch_validation, "on_device", lambda *_, **__: SimpleNamespace(close=lambda: None))
        figures = EpochValidation(context, loaders, reporter)("model", 3, then=lambda: seen.then.append("called"))
        return figures, seen

    return validate


@pytest.mark.parametrize(("num_clips", "num_batches"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_last_batch_that_is_not_full_counts(validated, num_clips, num_batches):
    assert validated(num_clips, 1)[1].asked == {"model": "model", "num_batches": num_batches}


@pytest.mark.parametrize(("num_steps", "then"), [(1, [1]), (4, [1, 2, 3, 4]), (7, [3, 4, 5, 6, 7])])
def test_what_comes_next_is_begun_when_four_batches_are_left(validated, num_steps, then):
    assert validated(8, num_steps)[1].then == then


def test_every_batch_is_told_and_may_end_the_validation(validated, caplog):
    caplog.set_level("INFO", epoch_validation.__name__)
    figures, seen = validated(8, 2)
    assert seen.told == [("valid", 3), ("validating", {"epoch": 3, "steps": 2}), 1, 2, "left"]
    assert seen.checked == ["validating epoch 3"] * 2
    assert figures.bad_clips == 7  # of all ranks
    assert figures.classes == (["action-label", "temporal-region-label"], "the labels")
    assert [item.getMessage().split(":")[0] for item in caplog.records] == ["** Valid Epoch 3"]
    caplog.clear()
    validated(8, 2, is_main=False)
    assert caplog.records == []
