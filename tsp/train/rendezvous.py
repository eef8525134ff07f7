"""The rendezvous of a run's ranks: rank 0 opens a key-value store, all ranks check in, then the process group is
formed.

Pods start minutes apart, and a name may resolve before its pod exists. So a rank first waits for rank 0's port, then
for every rank to check in, so that missing ranks can be named; only then torch, whose own timeouts do not name ranks,
forms the process group.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from tsp.errors import PeerLostError
from tsp.train.distributed import AGREE_SEC, BACKENDS, PEER_SEC, Group, RankEnv, lost_peers
from tsp.train.peers import PeerMonitor, alive_key
from tsp.train.stop_signal import Stop
from tsp.train.watchdog import Watchdog

logger = logging.getLogger(__name__)

RENDEZVOUS_SEC = 900.0
"""How long ranks wait for each other at the start, while pods are scheduled and images pulled."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def join(
    rank_env: RankEnv,
    device: torch.device,
    stop: Stop,
    *,
    rendezvous_sec: float = RENDEZVOUS_SEC,
    peer_sec: float = PEER_SEC,
    end: Callable[[int], object] = os._exit,
) -> Group:
    """Meet the other ranks, and start to monitor them and this one.

    Args: peer_sec, how long a rank waits for another in a step; end, ends the process as a last resort. Raises:
    PeerLostError if they do not arrive in time; TerminatedError.
    """
    if rank_env.world_size == 1:
        watchdog = Watchdog(stop, end=end)
        watchdog.start()
        return Group(rank_env, device, watchdog=watchdog, peer_sec=peer_sec)
    if rank_env.master_addr in _LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's own name may not resolve
    if rank_env.rank > 0:
        wait_for_port(rank_env.master_addr, rank_env.master_port, stop, timeout_sec=rendezvous_sec)
    where = f"{rank_env.master_addr}:{rank_env.master_port}"
    with lost_peers(f"meeting at {where}"):
        store = _open_store(rank_env, stop, rendezvous_sec)
        _wait_for_all(store, rank_env, stop, rendezvous_sec)
        peers = PeerMonitor(store, rank_env.rank, rank_env.world_size)
        group = Group(rank_env, device, watchdog=Watchdog(stop, peers, end=end), peer_sec=peer_sec)
        peers.start()
        group.watchdog.start()
        on_gpu = device.type == "cuda"
        # A little longer than our own deadline, which has the better message.
        timeout = timedelta(seconds=AGREE_SEC if on_gpu else peer_sec + 5.0)
        with group.waiting("the process group", min(AGREE_SEC, rendezvous_sec)):
            dist.init_process_group(
                ",".join(f"{kind}:{BACKENDS[kind]}" for kind in (("cpu", "cuda") if on_gpu else ("cpu",))),
                store=PrefixStore("tsp", store),
                rank=rank_env.rank,
                world_size=rank_env.world_size,
                timeout=timeout,
                device_id=device if on_gpu else None,
            )
            control = dist.new_group(backend="gloo", timeout=timedelta(seconds=AGREE_SEC))
            group.control = control if isinstance(control, dist.ProcessGroup) else None
            dist.barrier() if not on_gpu else dist.barrier(device_ids=[device.index])
    logger.info("rank %d of %d met the others at %s", rank_env.rank, rank_env.world_size, where)
    return group


def wait_for_port(host: str, port: int, stop: Stop, *, timeout_sec: float, pause_sec: float = 0.25) -> None:
    """Wait until something listens on the port; whether the name resolves yet does not matter.

    Raises: PeerLostError; TerminatedError.
    """
    end = time.monotonic() + timeout_sec
    reason = "no answer"
    while time.monotonic() < end:
        stop.check(f"waiting for rank 0 at {host}:{port}")
        try:
            with socket.create_connection((host, port), timeout=5.0):
                return
        except OSError as error:
            reason = str(error)
        time.sleep(pause_sec)
    raise PeerLostError(f"rank 0 did not open {host}:{port} within {timeout_sec:.0f} s ({reason}): is its pod running?")


def _open_store(rank_env: RankEnv, stop: Stop, timeout_sec: float) -> TCPStore:
    """The key-value store at rank 0; the previous attempt may still hold the port."""
    where = f"{rank_env.master_addr}:{rank_env.master_port}"
    end = time.monotonic() + min(timeout_sec, 60.0)
    while True:
        try:
            return _interruptible(lambda: _tcp_store(rank_env, timeout_sec), stop, f"opening the meeting point {where}")
        except dist.DistNetworkError as error:
            if time.monotonic() > end:
                raise PeerLostError(
                    f"cannot open the meeting point {where}: {str(error).splitlines()[0]}; is another run using the "
                    "port, and does the name lead to rank 0?"
                ) from error
            time.sleep(0.5)


def _tcp_store(rank_env: RankEnv, timeout_sec: float) -> TCPStore:
    return TCPStore(
        rank_env.master_addr,
        rank_env.master_port,
        rank_env.world_size,
        is_master=rank_env.rank == 0,
        timeout=timedelta(seconds=timeout_sec),
        wait_for_workers=False,
    )


def _interruptible(make: Callable[[], TCPStore], stop: Stop, doing: str) -> TCPStore:
    """What ``make`` returns, made in a thread: it tries a name that does not resolve, or leads elsewhere, until its
    timeout, and the main thread would hear no signal for as long.

    Raises: what it raises; TerminatedError.
    """
    made: Future[TCPStore] = Future()

    def work() -> None:
        try:
            made.set_result(make())
        except Exception as error:
            made.set_exception(error)

    threading.Thread(target=work, name="meeting point", daemon=True).start()
    while not wait([made], timeout=0.1).done:
        stop.check(doing)
    stop.check(doing)
    return made.result()


def _wait_for_all(store: TCPStore, rank_env: RankEnv, stop: Stop, timeout_sec: float) -> None:
    """Wait until every rank has checked in, so that missing ones can be named."""
    keys = {rank: alive_key(rank) for rank in range(rank_env.world_size)}
    store.set(keys[rank_env.rank], "1")
    end = time.monotonic() + timeout_sec
    missing = list(keys)
    while missing := [rank for rank in missing if not store.check([keys[rank]])]:
        stop.check("waiting for the other ranks")
        if time.monotonic() > end:
            names = ", ".join(map(str, missing))
            raise PeerLostError(f"ranks {names} of {rank_env.world_size} did not join within {timeout_sec:.0f} s")
        time.sleep(0.1)
