"""How much of shared memory batches and workers may take: at the border of each rule."""

import math

import numpy as np
import pytest
import torch

from tsp.data import shared_memory
from tsp.data.segments import SegmentCounts, SegmentTable
from tsp.data.shared_memory import (
    SharedSegments,
    check_shared_memory,
    explain_full_shared_memory,
    fitting_workers,
    has_room,
    has_room_for_two,
    to_shared,
)
from tsp.errors import ConfigError, StalledError

MIB = 1 << 20


@pytest.fixture
def memory(monkeypatch):
    """Sets size and free part of shared memory, in MiB."""

    def set_to(size_mib, free_mib):
        monkeypatch.setattr(shared_memory, "_size_and_free_bytes", lambda: (size_mib * MIB, free_mib * MIB))

    return set_to


@pytest.mark.parametrize(("free_mib", "enough"), [(60, True), (59, False)])
def test_each_worker_may_queue_two_batches(memory, free_mib, enough):
    memory(1000, free_mib)
    assert has_room(10 * MIB, 3) is enough


@pytest.mark.parametrize(("size_mib", "free_mib", "enough"), [(140, 60, True), (139, 60, False), (140, 59, False)])
def test_a_second_loader_needs_as_much_again_and_a_batch_in_use_of_each(memory, size_mib, free_mib, enough):
    memory(size_mib, free_mib)
    assert has_room_for_two(10 * MIB, 3) is enough


@pytest.mark.parametrize(
    ("free_mib", "wanted", "fit"), [(200, 8, 8), (160, 8, 8), (159, 8, 7), (40, 8, 2), (39, 8, 1), (0, 8, 1), (0, 1, 1)]
)
def test_as_many_workers_are_started_as_there_is_room_for_and_one_at_least(memory, free_mib, wanted, fit):
    memory(1000, free_mib)
    assert fitting_workers(10 * MIB, wanted) == fit


@pytest.mark.parametrize(("size_mib", "workers", "refused"), [(30, 3, False), (29, 3, True), (0, 0, False)])
def test_a_run_whose_shared_memory_holds_no_batch_a_worker_is_refused(memory, size_mib, workers, refused):
    memory(size_mib, size_mib)
    if refused:
        with pytest.raises(
            ConfigError, match=r"shared memory is too small: .* has 29 MiB, 29 of them free; 3 data workers"
        ):
            check_shared_memory(10 * MIB, workers)
    else:
        check_shared_memory(10 * MIB, workers)


def test_where_there_is_no_shared_memory_there_is_room(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "none")
    assert has_room(1 << 60, 8)
    assert has_room_for_two(1 << 60, 8)
    check_shared_memory(1 << 60, 8)


@pytest.mark.parametrize(("size_mib", "kind"), [(60, StalledError), (59, ConfigError)])
def test_memory_that_would_do_is_filled_by_something_else_and_another_attempt_may_help(memory, size_mib, kind):
    memory(size_mib, 5)
    error = explain_full_shared_memory("a batch did not fit", 3, 10 * MIB)
    assert type(error) is kind
    said = f"has {size_mib} MiB, 5 of them free; 3 data workers keep up to 6 batches of 10 MiB there, 60 MiB in total"
    assert said in str(error)
    assert type(explain_full_shared_memory("full", 3)) is ConfigError


@pytest.mark.parametrize(
    ("size_mib", "said", "kind", "words"),
    [
        (
            1,
            "No space left on device (28)",
            StalledError,
            "shared memory: /dev/shm has 1 MiB, .* check what else uses it",
        ),
        (0, "No space left on device (28)", ConfigError, "shared memory: /dev/shm has 0 MiB, .* make it larger"),
        (1, "Read-only file system (30)", ConfigError, r"in /dev/shm \(Read-only file system\): it must be a tmpfs"),
        (1, "Too many open files (24)", ConfigError, r"in /dev/shm \(Too many open files\): raise 'ulimit -n'"),
        (1, "something", StalledError, "shared memory: /dev/shm has 1 MiB"),
        # What this process has put there itself will be in the way of another attempt, too.
        (2, "No space left on device (28)", ConfigError, "shared memory: /dev/shm has 2 MiB, .* make it larger"),
    ],
)
def test_annotations_that_cannot_be_shared_are_told_with_the_reason(monkeypatch, memory, size_mib, said, kind, words):
    def refuse(tensor):
        raise RuntimeError(f"unable to open shared memory object </torch_7_8_9> in read-write mode: {said}\nmore")

    memory(size_mib, 0)
    monkeypatch.setattr(shared_memory, "_SHARED", [2 * MIB] if size_mib == 2 else [])
    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(kind, match=f"^the annotations .* {words}"):
        to_shared(np.zeros(1000, np.uint8))


def test_segments_are_the_tables_whatever_their_names():
    names = ("a.mp4", "ü/b c.mkv", "d.mp4")
    counts = SegmentCounts(rows=3, kept=3, too_short=0, ends_first=(), clamped=0)
    table = SegmentTable(
        path="t.csv", filenames=names, file_index=np.array([1, 0, 2], np.int32), starts_sec=np.array([0.5, 1.0, 2.0]),
        ends_sec=np.array([2.0, 3.0, 9.0]), rates_fps=np.array([30.0, math.nan, 25.0]),
        labels=np.array([[1, -1], [0, 1], [2, 0]]), rows=np.array([2, 3, 5], np.int32), counts=counts,
    )  # fmt: skip
    shared = SharedSegments.of(table)
    assert len(shared) == len(table) == 3
    assert [shared[index] for index in range(3)] == [table[index] for index in range(3)]
    assert [shared.filename(number) for number in range(3)] == list(names)
