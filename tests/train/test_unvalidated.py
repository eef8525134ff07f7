"""Epochs whose attempt ended between checkpoint and results: which are validated, and what is recorded of them."""

import hashlib
from types import SimpleNamespace

import pytest

from tsp.errors import ConfigError, StoreError, StoreUnreachableError
from tsp.run.results import EpochResult, HeadResult
from tsp.train import unvalidated
from tsp.train.unvalidated import validate_unvalidated_epochs
from tsp.train.validate import Figures

RESULT = EpochResult(0, (HeadResult("action-label", 50.0, 1.25),), 1.25, 50.0)


class Run:
    """A run with these checkpoints, of which some have results and one is that of the newest state."""

    def __init__(self, checkpoints, *, records=(), state=None, broken=None):
        self._checkpoints, self._records, self._state = checkpoints, records, state
        self.broken, self.published = broken or {}, []

    def epochs(self):
        return dict.fromkeys(self._records)

    def latest_state(self):
        return None if self._state is None else SimpleNamespace(epoch=self._state)

    def checkpoints(self):
        return set(self._checkpoints)

    def address(self, name):
        return f"store/{name}"

    def download_epoch(self, epoch, path):
        if epoch in self.broken:
            raise self.broken[epoch]
        path.write_bytes(b"weights of %d" % epoch)

    def publish_record(self, record):
        self.published.append(record)


@pytest.fixture
def validated(monkeypatch, tmp_path):
    """Validates what a run lacks; returns the epochs, in order, as main rank or as another that is sent them."""
    clock = SimpleNamespace(sec=1000.0)
    monkeypatch.setattr(unvalidated.time, "monotonic", lambda: clock.sec)
    monkeypatch.setattr(unvalidated.checkpoint, "read", lambda path: {"model": path.read_bytes().decode()})
    loaded = []
    monkeypatch.setattr(unvalidated, "load_model_state", lambda model, state, where: loaded.append((state, where)))

    def validate(run, *, sent=None):
        epochs = []

        def one(model, epoch):
            epochs.append(epoch)
            clock.sec += 12.346
            return Figures(result=RESULT, classes=(), bad_clips=3)

        answers = iter(sent or ())
        group = SimpleNamespace(from_main=lambda own: own if sent is None else next(answers))

        def fits(content, where):
            loaded.append(("fits", where))

        numerics = SimpleNamespace(prepare=lambda model: loaded.append("prepared"))
        validate_unvalidated_epochs(run, "model", group, numerics, tmp_path if sent is None else None, fits, one)
        return epochs, loaded

    return validate


@pytest.mark.parametrize(
    ("run", "epochs"),
    [
        (Run([]), []),
        (Run([0, 1], records=[0, 1]), []),
        (Run([2, 0, 1], records=[1]), [0, 2]),
        (Run([0, 1], records=[0], state=1), []),  # the attempt goes on there, and validates it itself
        (Run([0, 1], state=1), [0]),
    ],
)
def test_every_epoch_without_results_is_validated_but_that_of_the_newest_state(validated, run, epochs):
    assert validated(run)[0] == epochs
    assert [record.epoch for record in run.published] == epochs


def test_its_record_has_what_was_found_and_the_checkpoint_that_was_validated(validated, tmp_path):
    run = Run([4])
    _, loaded = validated(run)
    where = "store/epoch_4.pth"
    assert loaded == [("fits", where), ("weights of 4", where), "prepared"]
    (record,) = run.published
    assert (record.epoch, record.result, record.bad_clips, record.clips_per_sec) == (4, RESULT, 3, 0.0)
    assert (record.size_bytes, record.sha256) == (12, hashlib.sha256(b"weights of 4").hexdigest())
    assert record.duration_sec == 12.35
    assert record.results_line.startswith("** Valid Epoch 0:")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_left_to_be_trained_again_and_a_store_that_is_away_is_not(validated, caplog):
    run = Run([0, 1, 2], broken={0: StoreError("its digest is another"), 1: ConfigError("no checkpoint")})
    assert validated(run)[0] == [2]
    assert "epoch 0 is trained again: its digest is another" in caplog.text
    assert "epoch 1 is trained again: no checkpoint" in caplog.text
    with pytest.raises(StoreUnreachableError):
        validated(Run([0], broken={0: StoreUnreachableError("away")}))


def test_other_ranks_validate_what_the_main_one_sends_and_record_nothing(validated):
    run = Run([0, 1, 2])
    assert validated(run, sent=[[0, 2], {"model": "a"}, None])[0] == [0]
    assert run.published == []
