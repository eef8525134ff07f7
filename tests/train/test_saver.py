"""Checkpoints on their way to the store: what is published of them, and what is waited for at the end."""

import hashlib
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from tsp.errors import ConfigError, StoreError, StoreUnreachableError
from tsp.train.saver import Saver


class Uploader:
    """Notes what it is given."""

    def __init__(self):
        self.given, self.drained, self.fails = [], [], None

    def submit_state(self, path, meta):
        self.given.append((Path(path).read_bytes(), meta))

    def submit_epoch(self, path, record):
        self.given.append((Path(path).read_bytes(), record))

    def drain(self, timeout_sec):
        self.drained.append(timeout_sec)
        if self.fails:
            raise self.fails


def test_a_state_is_published_with_its_place_size_and_digest():
    uploader = Uploader()
    with Saver(uploader) as saver:
        saver.save_state({"step": torch.tensor(7)}, epoch=3, step=7, attempt=2)
    ((data, meta),) = uploader.given
    assert (meta.epoch, meta.step, meta.attempt) == (3, 7, 2)
    assert (meta.size_bytes, meta.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_an_epoch_is_published_with_the_record_made_of_its_size_and_digest():
    uploader = Uploader()
    with Saver(uploader) as saver:
        saver.save_epoch({"epoch": 1}, lambda size_bytes, sha256: (size_bytes, sha256))
        saver.save_epoch({"epoch": 2}, lambda *_: "the second")
    (data, record), (_, second) = uploader.given
    assert record == (len(data), hashlib.sha256(data).hexdigest())
    assert second == "the second"


@pytest.mark.parametrize(
    ("error", "drained"),
    [
        (None, [None]),  # everything, however long it takes
        (ConfigError("odd"), [120.0]),
        (KeyboardInterrupt(), [120.0]),
        (StoreError("full"), []),  # what is left cannot be saved either
        (StoreUnreachableError("gone"), []),
    ],
)
def test_a_run_that_ends_waits_for_its_uploads_unless_the_store_is_what_failed(error, drained):
    uploader = Uploader()
    with pytest.raises(type(error)) if error else nullcontext(), Saver(uploader) as saver:
        assert saver.folder.is_dir()
        if error:
            raise error
    assert uploader.drained == drained
    assert not saver.folder.exists()


def test_uploads_that_fail_at_the_end_of_a_run_that_failed_do_not_hide_why_it_did(caplog):
    uploader = Uploader()
    uploader.fails = StoreUnreachableError("the store is gone")
    with pytest.raises(ConfigError, match="odd"), Saver(uploader):
        raise ConfigError("odd")
    assert "not everything was saved before the end: the store is gone" in caplog.text
    with pytest.raises(StoreUnreachableError), Saver(uploader):
        pass


def test_a_checkpoint_that_could_not_be_written_is_told_once_at_the_next(monkeypatch):
    def fail(content, path):
        raise StoreError("the disk is full")

    with Saver(Uploader()) as saver:
        with monkeypatch.context() as patch:
            patch.setattr("tsp.train.saver.checkpoint.write", fail)
            saver.save_state({}, epoch=0, step=0, attempt=1)
            with pytest.raises(StoreError, match="the disk is full"):
                saver.save_epoch({}, lambda *_: None)
        assert not saver.is_busy
        saver.check()
        saver.save_state({}, epoch=0, step=1, attempt=1)
        saver.drain(5.0)
        assert [meta.step for _, meta in saver.uploader.given] == [1]
        assert saver.uploader.drained == [5.0]
