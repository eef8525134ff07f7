"""Publishing off the training thread: order, retries, errors that surface, progress that never does."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy
from tests.run.stored import PROGRESS, MakeEpoch, MakeState
from tests.s3_servers import S3Server
from tests.stores import QUICK
from tests.waiting import wait_until
from tsp.errors import StoreError, StoreUnreachableError
from tsp.run.stored_run import StoredRun
from tsp.run.uploader import Uploader
from tsp.store.open import open_store


@pytest.fixture
def gate(local_run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds every upload of files until it is set."""
    opened = threading.Event()
    upload = local_run.store.upload

    def wait(*args: object, **kwargs: object) -> None:
        assert opened.wait(600)
        upload(*args, **kwargs)

    monkeypatch.setattr(local_run.store, "upload", wait)
    yield opened
    opened.set()


def fail_with(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_everything_submitted_is_published_in_order_and_the_files_are_gone(
    run: StoredRun, make_epoch: MakeEpoch, make_state: MakeState
) -> None:
    files = []
    with Uploader(run, keep_epochs=1) as uploader:
        for epoch, accuracy in ((0, 10.0), (1, 30.0), (2, 20.0)):
            state, epoch_file = make_state(epoch, 5), make_epoch(epoch, accuracy)
            uploader.submit_state(*state)
            uploader.submit_epoch(*epoch_file)
            uploader.submit_progress(dataclasses.replace(PROGRESS, epoch=epoch))
            files += [state[0], epoch_file[0]]
    assert list(run.results()) == [0, 1, 2]
    assert set(run.checkpoints()) == {1, 2}
    state_found, progress = run.latest_state(), run.read_progress()
    assert state_found is not None
    assert state_found.epoch == 2
    assert progress is not None
    assert progress.epoch == 2
    assert not any(file.exists() for file in files)


def test_training_is_not_held_up_and_a_waiting_state_gives_way_to_a_newer_one(
    local_run: StoredRun, make_epoch: MakeEpoch, make_state: MakeState, gate: threading.Event
) -> None:
    uploader = Uploader(local_run)
    started = time.monotonic()
    uploader.submit_epoch(*make_epoch(0))
    states = [make_state(1, step) for step in (10, 20, 30)]
    for state in states:
        uploader.submit_state(*state)
        uploader.submit_progress(PROGRESS)
    assert time.monotonic() - started < 300, "held up until the gate opens, which it never does by itself"
    assert not local_run.epochs(), "the first upload is held up"
    assert [path.exists() for path, _ in states] == [False, False, True]
    gate.set()
    uploader.drain()
    uploader.close()
    newest = local_run.latest_state()
    assert newest is not None
    assert (newest.step, newest.previous) == (30, None)


def test_a_slow_store_holds_up_rather_than_fills_the_disk(
    local_run: StoredRun, make_epoch: MakeEpoch, gate: threading.Event
) -> None:
    uploader = Uploader(local_run)
    submitted = threading.Semaphore(0)

    def submit() -> None:
        for epoch in range(5):
            uploader.submit_epoch(*make_epoch(epoch))
            submitted.release()

    thread = threading.Thread(target=submit)
    thread.start()
    for _ in range(3):
        assert submitted.acquire(timeout=600)
    assert not submitted.acquire(timeout=0.2), "one on its way, two waiting, the next one blocks"
    gate.set()
    thread.join()
    uploader.drain()
    uploader.close()
    assert list(local_run.epochs()) == [0, 1, 2, 3, 4]


def test_progress_goes_out_while_a_checkpoint_is_on_its_way(
    local_run: StoredRun, make_epoch: MakeEpoch, gate: threading.Event
) -> None:
    uploader = Uploader(local_run)
    uploader.submit_epoch(*make_epoch(0))
    uploader.submit_progress(PROGRESS)
    wait_until(local_run.read_progress, "progress is written")
    assert local_run.read_progress() == PROGRESS
    assert not local_run.epochs()
    gate.set()
    uploader.drain()
    uploader.close()


def test_a_drain_waits_for_progress_that_is_on_its_way(local_run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, write = threading.Event(), local_run.store.write

    def slow(*args: object, **kwargs: object) -> None:
        begun.set()
        time.sleep(0.2)
        write(*args, **kwargs)

    monkeypatch.setattr(local_run.store, "write", slow)
    uploader = Uploader(local_run)
    uploader.submit_progress(PROGRESS)
    assert begun.wait(600)
    uploader.drain()
    assert local_run.read_progress() == PROGRESS
    uploader.close()


def test_a_refused_upload_surfaces_on_the_next_call_and_keeps_the_file(
    local_run: StoredRun, make_epoch: MakeEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_run.store, "upload", fail_with(StoreError("no space left")))
    uploader = Uploader(local_run)
    path, record = make_epoch(0)
    uploader.submit_epoch(path, record)
    with pytest.raises(StoreError, match="no space left"):
        uploader.drain()
    with pytest.raises(StoreError, match="no space left"):
        uploader.submit_epoch(*make_epoch(1))
    uploader.close()
    assert path.exists()


def test_an_outage_is_waited_out(
    local_run: StoredRun, make_epoch: MakeEpoch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload, outage = local_run.store.upload, [3]

    def flaky(*args: object, **kwargs: object) -> None:
        if outage[0]:
            outage[0] -= 1
            raise StoreUnreachableError("store did not answer")
        upload(*args, **kwargs)

    monkeypatch.setattr(local_run.store, "upload", flaky)
    with Uploader(local_run, pause_sec=0.01) as uploader:
        uploader.submit_epoch(*make_epoch(0))
    assert list(local_run.epochs()) == [0]
    assert caplog.text.count("epoch 0 waits") == 3


def test_an_outage_that_does_not_end_surfaces_as_unreachable(
    local_run: StoredRun, make_epoch: MakeEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_run.store, "upload", fail_with(StoreUnreachableError("gone")))
    uploader = Uploader(local_run, give_up_after_sec=0.05, pause_sec=0.01)
    uploader.submit_epoch(*make_epoch(0))
    with pytest.raises(StoreUnreachableError, match="gone"):
        uploader.drain(timeout_sec=600)
    uploader.close()


def test_a_drain_that_takes_too_long_says_how_much_is_left(
    local_run: StoredRun, make_epoch: MakeEpoch, gate: threading.Event
) -> None:
    uploader = Uploader(local_run)
    uploader.submit_epoch(*make_epoch(0))
    uploader.submit_epoch(*make_epoch(1))
    with pytest.raises(StoreUnreachableError, match=r"2 uploads to .* were not finished within 0 s"):
        uploader.drain(timeout_sec=0.05)
    gate.set()
    uploader.close()


def test_newer_progress_follows_at_once_what_was_written(local_run: StoredRun) -> None:
    with Uploader(local_run, pause_sec=3600) as uploader:
        for step in range(3):
            newest = dataclasses.replace(PROGRESS, step=step)
            uploader.submit_progress(newest)
            wait_until(lambda newest=newest: local_run.read_progress() == newest, "progress is written")


def test_between_tries_to_write_progress_the_store_has_a_pause(
    local_run: StoredRun, make_epoch: MakeEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def fail(progress: object) -> None:
        tries.append(progress)
        raise StoreUnreachableError("away")

    monkeypatch.setattr(local_run, "write_progress", fail)
    with Uploader(local_run, pause_sec=3600) as uploader:
        uploader.submit_progress(PROGRESS)
        wait_until(lambda: tries, "progress was tried")
        for epoch in range(3):
            uploader.submit_epoch(*make_epoch(epoch))
        wait_until(lambda: len(local_run.results()) == 3, "the epochs are published")
        assert len(tries) == 1


def test_progress_that_cannot_be_written_is_warned_of_once_and_tried_again(
    local_run: StoredRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with monkeypatch.context() as patch, Uploader(local_run, pause_sec=0.01) as uploader:
        patch.setattr(local_run.store, "write", fail_with(StoreError("refused")))
        for step in range(20):
            uploader.submit_progress(dataclasses.replace(PROGRESS, step=step))
            time.sleep(0.005)
        uploader.drain(timeout_sec=600)
        patch.undo()
        wait_until(local_run.read_progress, "progress is written")
    progress = local_run.read_progress()
    assert progress is not None
    assert progress.step == 19, "the newest, without being submitted again"
    assert caplog.text.count("progress cannot be written at the moment") == 1


def test_random_faults_of_a_real_server_lose_no_epoch(
    s3_server: S3Server, make_epoch: MakeEpoch, make_state: MakeState, tmp_path: Path
) -> None:
    rates = {"error_500": 0.1, "error_503": 0.1, "reset": 0.1, "lost_answer": 0.1, "truncated": 0.05}
    with FaultProxy(s3_server.endpoint_url, seed=3, rates=rates) as proxy:
        config = s3_server.config(f"uploader/{tmp_path.name}", endpoint_url=proxy.url)
        run = StoredRun(open_store(config, retry=QUICK), "first-run")
        with Uploader(run, pause_sec=0.01) as uploader:
            for epoch in range(4):
                uploader.submit_state(*make_state(epoch, 5))
                uploader.submit_epoch(*make_epoch(epoch, 10.0 * epoch))
                uploader.submit_progress(PROGRESS)
        assert sum(count for fault, count in proxy.counts.items() if fault) > 5
    calm = StoredRun(open_store(s3_server.config(f"uploader/{tmp_path.name}"), retry=QUICK), "first-run")
    assert list(calm.epochs()) == [0, 1, 2, 3]
    assert calm.store.read(calm.key("results.txt")).decode().count("\n") == 4
    assert calm.best().epoch == 3
    newest = calm.latest_state()
    assert newest is not None
    assert newest.epoch == 3
