"""Ranks meet: the master's port is waited for, and what does not come is named."""

import socket
import threading
import time

import pytest
import torch

from tests.s3_servers import free_port
from tsp.errors import PeerLostError, TerminatedError
from tsp.train import rendezvous
from tsp.train.distributed import RankEnv
from tsp.train.rendezvous import join, wait_for_port
from tsp.train.stop_signal import Stop

CPU = torch.device("cpu")


def test_the_masters_port_is_waited_for_not_only_its_name():
    port = free_port()
    listener = socket.socket()

    def open_late():
        time.sleep(0.6)
        listener.bind(("127.0.0.1", port))
        listener.listen()

    thread = threading.Thread(target=open_late)
    thread.start()
    started = time.monotonic()
    wait_for_port("localhost", port, Stop(), timeout_sec=600.0, pause_sec=0.05)
    thread.join()
    listener.close()
    assert time.monotonic() - started > 0.5


def test_a_master_that_never_opens_its_port_is_a_lost_peer():
    with pytest.raises(PeerLostError, match="within 0 s"):
        wait_for_port("127.0.0.1", free_port(), Stop(), timeout_sec=0.2, pause_sec=0.05)


def test_waiting_for_the_master_ends_when_told_to_stop():
    stop = Stop()
    stop.signal_name = "SIGTERM"
    with pytest.raises(TerminatedError):
        wait_for_port("127.0.0.1", free_port(), stop, timeout_sec=60.0)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_hears_sigterm_while_the_masters_name_does_not_resolve(rank):
    stop = Stop()
    threading.Timer(0.5, lambda: setattr(stop, "signal_name", "SIGTERM")).start()
    nowhere = RankEnv(rank=rank, world_size=2, master_addr="no-such-service.invalid", master_port=free_port())
    with pytest.raises(TerminatedError, match=r"SIGTERM while .* no-such-service\.invalid:\d+"):
        join(nowhere, CPU, stop, rendezvous_sec=20.0)


def test_a_masters_name_that_never_resolves_is_named():
    nowhere = RankEnv(world_size=2, master_addr="no-such-service.invalid", master_port=free_port())
    with pytest.raises(PeerLostError, match=r"cannot open the meeting point no-such-service\.invalid:\d+: .*name lead"):
        join(nowhere, CPU, Stop(), rendezvous_sec=1.0)


def test_ranks_that_do_not_come_are_named():
    with pytest.raises(PeerLostError, match="ranks 1, 2 of 3 did not join within 0 s"):
        join(RankEnv(world_size=3, master_port=free_port()), CPU, Stop(), rendezvous_sec=0.3)


@pytest.mark.parametrize(
    ("device", "backends", "device_id", "timeout_sec"),
    [
        (torch.device("cuda", 1), "cpu:gloo,cuda:nccl", torch.device("cuda", 1), 1800),
        (torch.device("cpu"), "cpu:gloo", None, 65),
    ],
)
def test_nccl_is_told_its_card_when_ranks_meet_and_so_needs_not_guess_it_at_the_first_sum(
    monkeypatch, device, backends, device_id, timeout_sec
):
    """And no backend waits much longer for a rank than we do."""
    made, barriers = [], []
    monkeypatch.setattr(rendezvous.dist, "init_process_group", lambda *args, **options: made.append((args, options)))
    monkeypatch.setattr(rendezvous.dist, "new_group", lambda **_: None)
    monkeypatch.setattr(rendezvous.dist, "barrier", lambda **options: barriers.append(options))
    monkeypatch.setattr(rendezvous, "_wait_for_all", lambda *_: None)
    group = join(RankEnv(world_size=2, master_port=free_port()), device, Stop(), peer_sec=60.0)
    group.unwatch()
    (((named,), options),) = made
    assert options["timeout"].total_seconds() == timeout_sec
    assert (named, options["device_id"]) == (backends, device_id)
    assert barriers == [{"device_ids": [1]} if device_id else {}]
