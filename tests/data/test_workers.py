"""Data workers that fail, crash, hang or are left alone: each ends with its reason, and none stays behind."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sessions import processes_of
from tests.videos import Made, write_video
from tests.waiting import wait_until
from tsp.config.run import RunConfig
from tsp.data import workers as workers_module
from tsp.data.child_processes import forkserver
from tsp.data.dataset import ClipDataset
from tsp.data.loader import build_loader
from tsp.data.shared_memory import check_shared_memory
from tsp.errors import ConfigError, DataError, StalledError

ROOT = Path(__file__).parents[2]
SRC = os.path.abspath(ROOT)


AHEAD = [(2, 5), (1, 1)]
"""Workers and clips a batch: a worker dies with its first batch; or with its fourth, after two were delivered, while
the third waits in its memory."""


class FailingDataset(ClipDataset):
    """Does to the clip of one file what the class says, in a data worker or here."""

    def read_clip(self, item, out):
        self.notes.begin(item)
        if self.segments[item % len(self.segments)].filename == "v1.mp4" and not self.notes.crashed[1]:
            self.fail()
        return super().read_clip(item, out)


class Crashing(FailingDataset):
    def fail(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class Killed(FailingDataset):
    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Hanging(FailingDataset):
    def fail(self):
        time.sleep(600)

    def read_group(self, items, out):
        return [self.read_clip(item, out[row]) for row, item in enumerate(items)]


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Raising(FailingDataset):
    def fail(self):
        raise LookupError("no such thing")


class RaisingWhatCannotBeSent(FailingDataset):
    def fail(self):
        raise OddError("one", "two")


class Impatient(workers_module.WorkerReader):
    """Its deadline passes soon after the clip of v1.mp4 was begun, however long the workers took to start."""

    def doing(self):
        doing = super().doing()
        if "v1.mp4" in doing:
            self.deadline_sec = min(self.deadline_sec, 0.5)
        return doing


def loader_of(kind, config, monkeypatch, batch=5):
    monkeypatch.setattr("tsp.data.loader.ClipDataset", kind)
    monkeypatch.setattr(workers_module, "LOOK_EVERY_SEC", 0.2)
    return build_loader(config, "valid", batch=batch)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("kind", "error"), [(Raising, LookupError), (RaisingWhatCannotBeSent, RuntimeError)])
def test_an_exception_arrives_as_itself_with_the_workers_traceback(
    dataset_dir, make_config, monkeypatch, kind, error, workers
):
    with pytest.raises(error) as caught:
        list(loader_of(kind, make_config(dataset_dir, workers=workers), monkeypatch))
    assert str(caught.value) in ("'no such thing'", "no such thing", "OddError: one and two")
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize(("workers", "batch"), AHEAD)
def test_a_crashed_decoder_costs_the_clips_of_its_file_and_no_more(
    dataset_dir, make_config, monkeypatch, caplog, workers, batch
):
    config = make_config(dataset_dir, workers=workers, max_bad_share=0.5)
    loader = loader_of(Crashing, config, monkeypatch, batch)
    items = [item for batch in loader for item in batch.items.tolist()]
    assert [item for item in items if item >= 0] == [item for item in range(60) if item % 12 not in (3, 4, 5)]
    assert items.count(-1) == loader.num_bad == 15
    (line,) = [line for line in caplog.messages if "SIGSEGV" in line]
    assert "was ended by SIGSEGV while it read v1.mp4 (" in line
    assert re.search(r"table\.csv row [567]\)", line)


def test_a_crashed_decoder_ends_a_run_that_puts_up_with_no_bad_clip(dataset_dir, make_config, monkeypatch):
    loader = loader_of(Crashing, make_config(dataset_dir, workers=1, bad_clips="fail"), monkeypatch)
    with pytest.raises(DataError, match=r"a decoder crashed on v1\.mp4: .*table\.csv row 5"):
        list(loader)


@pytest.mark.parametrize(("workers", "batch"), AHEAD)
def test_a_killed_worker_is_said_to_be_killed_and_worth_another_attempt(
    dataset_dir, make_config, monkeypatch, workers, batch
):
    words = r"SIGKILL while it read v1\.mp4 .*it probably ran out of memory"
    with pytest.raises(StalledError, match=words) as caught:
        list(loader_of(Killed, make_config(dataset_dir, workers=workers), monkeypatch, batch))
    assert caught.value.exit_code >= 128


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("one_pass", [False, True])
def test_a_batch_that_does_not_come_ends_at_its_deadline_and_says_what_is_waited_for(
    dataset_dir, make_config, monkeypatch, workers, one_pass
):
    config = make_config(dataset_dir, workers=workers, one_pass=one_pass)
    monkeypatch.setattr("tsp.data.loader.WorkerReader", Impatient)
    monkeypatch.setattr("tsp.data.loader.ClipDataset", Hanging)
    monkeypatch.setattr(workers_module, "LOOK_EVERY_SEC", 0.2)
    loader = build_loader(config, "train" if one_pass else "valid", batch=5)
    words = r"no batch for \d+ s .*: worker 0 has been reading v1\.mp4 \(.* for"
    with pytest.raises(StalledError, match=words):
        list(loader)


def test_shared_memory_that_cannot_hold_a_batch_of_each_worker_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr("tsp.data.shared_memory._size_and_free_bytes", lambda: (64 << 20, 60 << 20))
    check_shared_memory(30 << 20, 2)
    check_shared_memory(300 << 20, 0)
    words = r"has 64 MiB, .*8 batches of 30 MiB there, 240 MiB in total: make it larger \(shm"
    with pytest.raises(ConfigError, match=words):
        check_shared_memory(30 << 20, 4)


PROGRAM = """
import os, pickle, sys
from tsp.data.loader import build_loader
if __name__ == "__main__":
    config = pickle.load(open(sys.argv[1], "rb"))
    for step, batch in enumerate(build_loader(config, "train", batch=int(sys.argv[2]))):
        if step == 0:
            print("reading", flush=True)
        if step == 2 and len(sys.argv) > 3:
            sys.stdin.read()
    print("done", flush=True)
"""


def program(tmp_path: Path, config: RunConfig, *arguments: str) -> list[str]:
    import pickle

    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "config").write_bytes(pickle.dumps(config))
    return [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "config"), *arguments]


@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
def test_a_rank_that_is_killed_leaves_no_worker_and_no_fork_server(dataset_dir, make_config, tmp_path):
    command = program(tmp_path, make_config(dataset_dir, workers=2), "4", "wait")
    rank = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": SRC},
    )  # fmt: skip
    assert rank.stdout.readline() == "reading\n"
    assert len(processes_of(rank.pid)) >= 4, "a rank, two workers, their server"
    rank.kill()
    rank.wait()
    wait_until(lambda: not processes_of(rank.pid), "no worker outlives its rank")
    rank.stdin.close()
    rank.stdout.close()


def can_mount() -> bool:
    test = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    return shutil.which("unshare") is not None and subprocess.run(test, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("size_mib", "words"),
    [(1, "shared memory is too small: /dev/shm has 1 MiB"), (20, "a batch did not fit: /dev/shm has 20 MiB")],
)
def test_a_small_shared_memory_ends_with_its_size_and_the_cure(dataset_dir, make_config, tmp_path, size_mib, words):
    if not can_mount():
        pytest.skip("needs a mount namespace of its own")
    # Batches of 12 MiB: one fits into 20 MiB, a second does not.
    config = dataclasses.replace(make_config(dataset_dir, workers=1))
    command = program(tmp_path, config, "4", "wait")
    inner = f"mount -t tmpfs -o size={size_mib}m tmpfs /dev/shm && exec " + " ".join(command)
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inner], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900,
        env={**os.environ, "PYTHONPATH": SRC},
    )  # fmt: skip
    assert f"ConfigError: {words}" in ended.stderr, ended.stderr
    assert "shm.sizeLimit of the chart" in ended.stderr


def test_a_stub_of_a_video_is_a_bad_clip_and_no_end_of_the_run(shared_dir, dataset_dir, make_config, tmp_path):
    root = tmp_path / "stub"
    shutil.copytree(dataset_dir, root)
    shutil.copy(shared_dir / "cases/video/stub-without-codec/stub.mp4", root / "videos/v1.mp4")
    (root / "videos/v2.mp4").write_bytes(write_video(tmp_path / "v.mp4", Made(num_frames=120)).read_bytes()[:1000])
    loader = build_loader(make_config(root, max_bad_share=0.5), "valid", batch=8)
    assert sum(int((batch.items < 0).sum()) for batch in loader) == 30


@pytest.mark.parametrize("before", [None, "error::DeprecationWarning"])
def test_starting_workers_leaves_pythons_warnings_as_they_were(monkeypatch, before):
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONWARNINGS", before)
    forkserver()
    assert os.environ.get("PYTHONWARNINGS") == before
