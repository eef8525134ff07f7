"""The ranks of a run: finding each other, agreeing, adding up, and noticing that one is gone.

The problem: pods start minutes apart and die at any moment, and torch's own answers to a lost peer are an abort (NCCL's
watchdog) or half an hour of silence. The idea: ranks meet at a key-value store that rank 0 opens, over which a rank
also says why it fails; control goes over gloo on the CPU, gradients over NCCL where there are GPUs. Invariants: every
rank makes the same collectives in the same order; whatever torch raises for a lost peer leaves here as PeerLostError;
with one rank there is no process group and nothing to wait for.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, TCPStore

from tsp.errors import ConfigError, PeerLostError
from tsp.train.stop_signal import Stop

logger = logging.getLogger(__name__)

RENDEZVOUS_SEC = 900.0
"""How long ranks wait for each other at the start: pods are scheduled and images pulled one by one."""
PEER_SEC = 1800.0
"""How long a rank waits for another in the middle of work before it counts as lost."""
_FAILURE_KEY = "tsp/failure"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankEnv:
    """Who this process is, as its starter says."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int = 29500

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> RankEnv:
        """RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; one rank alone where they are not set.

        Raises: ConfigError naming the variable.
        """

        def number(name: str, default: int) -> int:
            try:
                return int(env.get(name) or default)
            except ValueError as error:
                raise ConfigError(f"the variable {name} must be a whole number, got {env[name]!r}") from error

        rank_env = cls(
            rank=number("RANK", 0),
            world_size=number("WORLD_SIZE", 1),
            local_rank=number("LOCAL_RANK", 0),
            master_addr=env.get("MASTER_ADDR") or "127.0.0.1",
            master_port=number("MASTER_PORT", 29500),
        )
        if not 0 <= rank_env.rank < rank_env.world_size:
            raise ConfigError(f"RANK must lie in [0, WORLD_SIZE = {rank_env.world_size}), got {rank_env.rank}")
        return rank_env


class Group:
    """What a rank can do with the others; build it with ``join``."""

    def __init__(self, rank_env: RankEnv, device: torch.device, store: TCPStore | None) -> None:
        self.rank = rank_env.rank
        self.world_size = rank_env.world_size
        self.device = device
        self._store = store

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that writes."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, by rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with lost_peers("agreeing"):
            dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every rank; tensors in it are on the CPU."""
        if self.world_size == 1:
            return value
        box = [value if self.is_main else None]
        with lost_peers("waiting for rank 0"):
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def add_up(self, table: Tensor) -> Tensor:
        """The sum of every rank's table, on the CPU."""
        table = table.cpu()
        if self.world_size > 1:
            with lost_peers("adding up the validation"):
                dist.all_reduce(table)
        return table

    def start_maximum(self, flags: Tensor) -> dist.Work | None:
        """Begin to replace flags by the largest of all ranks, element by element; wait for the answer to use them."""
        return dist.all_reduce(flags, op=dist.ReduceOp.MAX, async_op=True) if self.world_size > 1 else None

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank rank 0's batch-norm statistics, as each training step does."""
        if self.world_size > 1:
            with lost_peers("sharing batch-norm statistics"):
                for buffer in model.buffers():
                    dist.broadcast(buffer, src=0)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the ranks, overlapped with the backward pass.

        Rank 0's weights are given to all. On the CPU buckets stay as they are first laid out: torch would lay them out
        anew after the first step, and with three or more ranks sums would then be added in another order after a
        restart.
        """
        if self.world_size == 1:
            return model
        on_gpu = self.device.type == "cuda"
        # Heads of 1x1 convolutions have strides that mean nothing; torch copies them and says so at length.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with lost_peers("sharing the weights"):
            return nn.parallel.DistributedDataParallel(
                model,
                device_ids=[self.device.index] if on_gpu else None,
                gradient_as_bucket_view=True,
                find_unused_parameters=not on_gpu,
            )

    def report_failure(self, message: str, exit_code: int) -> None:
        """Tell the other ranks why this one ends, so that they do not just find it gone. Never raises."""
        if self._store is not None:
            try:
                self._store.set(_FAILURE_KEY, json.dumps([self.rank, exit_code, message]))
            except (RuntimeError, dist.DistError) as failure:
                logger.debug("cannot tell the other ranks: %s", failure)

    def failure_elsewhere(self, wait_sec: float = 2.0) -> tuple[int, int, str] | None:
        """Rank, exit code and message of the rank that ended first, if it said so."""
        end = time.monotonic() + wait_sec
        while self._store is not None:
            try:
                if self._store.check([_FAILURE_KEY]):
                    rank, exit_code, message = json.loads(self._store.get(_FAILURE_KEY))
                    return None if rank == self.rank else (rank, exit_code, message)
            except (RuntimeError, dist.DistError):
                return None
            if time.monotonic() > end:
                return None
            time.sleep(0.1)
        return None

    def leave(self) -> None:
        """End the process group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join(rank_env: RankEnv, device: torch.device, stop: Stop, *, rendezvous_sec: float = RENDEZVOUS_SEC) -> Group:
    """Find the other ranks.

    Raises: PeerLostError if they do not come in time; TerminatedError.
    """
    if rank_env.world_size == 1:
        return Group(rank_env, device, None)
    if rank_env.master_addr in _LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's own name may lead nowhere
    if rank_env.rank > 0:
        wait_for_port(rank_env.master_addr, rank_env.master_port, stop, timeout_sec=rendezvous_sec)
    where = f"{rank_env.master_addr}:{rank_env.master_port}"
    with lost_peers(f"meeting at {where}"):
        store = _open_store(rank_env, stop, rendezvous_sec)
        _wait_for_all(store, rank_env, stop, rendezvous_sec)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("tsp", store),
            rank=rank_env.rank,
            world_size=rank_env.world_size,
            timeout=timedelta(seconds=PEER_SEC),
        )
        dist.barrier() if device.type != "cuda" else dist.barrier(device_ids=[device.index])
    logger.info("rank %d of %d met the others at %s", rank_env.rank, rank_env.world_size, where)
    return Group(rank_env, device, store)


def wait_for_port(host: str, port: int, stop: Stop, *, timeout_sec: float, pause_sec: float = 0.25) -> None:
    """Wait until something answers at the port; a name that resolves, or does not yet, says nothing.

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
    """The key-value store at rank 0; the port may still be held by the attempt before this one."""
    end = time.monotonic() + min(timeout_sec, 60.0)
    while True:
        try:
            return TCPStore(
                rank_env.master_addr,
                rank_env.master_port,
                rank_env.world_size,
                is_master=rank_env.rank == 0,
                timeout=timedelta(seconds=timeout_sec),
                wait_for_workers=False,
            )
        except dist.DistNetworkError as error:
            stop.check("opening the meeting point")
            if time.monotonic() > end:
                raise PeerLostError(
                    f"cannot open port {rank_env.master_port}: {str(error).splitlines()[0]}; is another run using it?"
                ) from error
            time.sleep(0.5)


def _wait_for_all(store: TCPStore, rank_env: RankEnv, stop: Stop, timeout_sec: float) -> None:
    """Wait until every rank has said that it is there, so that the one that is missing can be named."""
    keys = {rank: f"tsp/here/{rank}" for rank in range(rank_env.world_size)}
    store.set(keys[rank_env.rank], "1")
    end = time.monotonic() + timeout_sec
    missing = list(keys)
    while missing := [rank for rank in missing if not store.check([keys[rank]])]:
        stop.check("waiting for the other ranks")
        if time.monotonic() > end:
            names = ", ".join(map(str, missing))
            raise PeerLostError(
                f"of {rank_env.world_size} ranks these did not come within {timeout_sec:.0f} s: {names}"
            )
        time.sleep(0.1)


@contextmanager
def lost_peers(doing: str) -> Iterator[None]:
    """Turn the many ways in which torch says that a rank is gone into PeerLostError."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise PeerLostError(f"another rank was lost while {doing}: {str(error).splitlines()[0][:300]}") from error


_LOST_MARKS = ("gloo", "nccl", "connection closed", "connection reset", "connection refused", "broken pipe",
               "timed out", "timeout", "socket", "process group")  # fmt: skip


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error of torch means that another rank went away."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(mark in text for mark in _LOST_MARKS)
