"""Loaders that are started before they are needed: the same batches, sooner, and nothing left behind."""

import multiprocessing
import threading

import pytest
import torch

from tests.data.test_loader import contents
from tests.waiting import wait_until
from tsp.data.loader import build_loader
from tsp.data.read_ahead import ReadAhead
from tsp.errors import DataError

CPU = torch.device("cpu")


def test_a_started_loader_reads_before_it_is_asked_and_gives_the_same(dataset_dir, make_config):
    config = make_config(dataset_dir, workers=2)
    plain = contents(build_loader(config, "train", batch=8, epoch=1, start_step=2))
    loader = build_loader(config, "train", batch=8, epoch=1, start_step=2)
    loader.start(CPU)
    read = loader._ahead._first
    wait_until(lambda: not read.empty(), "a batch is read ahead")
    assert len(multiprocessing.active_children()) == 2
    assert contents(loader) == plain
    assert contents(loader) == plain, "what was read ahead is used once"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("early", [True, False])
def test_a_started_loader_that_is_not_used_leaves_no_worker(dataset_dir, make_config, early):
    loader = build_loader(make_config(dataset_dir, workers=2), "train", batch=8)
    loader.start(CPU)
    if not early:
        next(iter(loader))
    loader.close()
    loader.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("workers", "free_mib"), [(0, 4096), (2, 0)])
def test_a_loader_is_not_started_without_workers_or_room_in_shared_memory(
    dataset_dir, make_config, monkeypatch, workers, free_mib
):
    monkeypatch.setattr("tsp.data.shared_memory._size_and_free_bytes", lambda: (4096 << 20, free_mib << 20))
    loader = build_loader(make_config(dataset_dir, workers=workers), "train", batch=8)
    loader.start(CPU)
    assert not multiprocessing.active_children()
    assert len(contents(loader)) == len(loader)


def test_reading_ahead_pins_memory_for_this_ranks_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append((device, threading.current_thread())))
    ahead = ReadAhead((number for number in range(3)), torch.device("cuda", 1))
    assert list(ahead) == [0, 1, 2]
    assert [(device, thread is threading.main_thread()) for device, thread in chosen] == [
        (torch.device("cuda", 1), False)
    ]


def test_reading_ahead_raises_what_the_reading_raised():
    def failing():
        raise DataError("broken")
        yield

    with pytest.raises(DataError, match="broken"):
        list(ReadAhead(failing(), CPU))
    assert list(ReadAhead((number for number in ()), CPU)) == []
