"""The ranks of a run: finding each other, agreeing, adding up, and noticing that one is gone.

The problem: pods start minutes apart and die at any moment, and torch's own answers to a lost peer are an abort (NCCL's
watchdog) or half an hour of silence. The idea: ranks meet at a key-value store that rank 0 opens, over which a rank
also says why it fails; control goes over gloo on the CPU, gradients over NCCL where there are GPUs. Invariants: every
rank makes the same collectives in the same order; whatever torch raises for a lost peer leaves here as PeerLostError;
with one rank there is no process group and nothing to wait for.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, TCPStore, _broadcast_coalesced
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from tsp.errors import ConfigError, PeerLostError
from tsp.model.gpu_errors import is_lost_gpu, is_out_of_memory
from tsp.train.peers import Failure, PeerMonitor, alive_key
from tsp.train.stop_signal import Stop
from tsp.train.watchdog import Watchdog

logger = logging.getLogger(__name__)

RENDEZVOUS_SEC = 900.0
"""How long ranks wait for each other at the start: pods are scheduled and images pulled one by one."""
PEER_SEC = 300.0
"""How long a rank waits for another in the middle of a step, unless the configuration says otherwise."""
AGREE_SEC = 1800.0
"""How long a rank waits for another between steps: one downloads, another's clips decode slowly. A rank that gives no
sign of life is noticed long before."""
POLL_SEC = 0.02
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
"""Device -> what sums its tensors. Control always goes over the CPU's."""
_BUCKET_BYTES = 250 << 20
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

    def __init__(
        self,
        rank_env: RankEnv,
        device: torch.device,
        *,
        watchdog: Watchdog | None = None,
        peer_sec: float = PEER_SEC,
    ) -> None:
        self.rank = rank_env.rank
        self.world_size = rank_env.world_size
        self.device = device
        self.peer_sec = peer_sec
        self.watchdog = watchdog or Watchdog(Stop())
        self.control: dist.ProcessGroup | None = None
        """Sums nothing but figures of the host, and is patient."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that writes."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, by rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        self._together("the other ranks to agree", lambda: dist.all_gather_object(values, value, group=self.control))
        return values

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every rank; tensors in it are on the CPU."""
        if self.world_size == 1:
            return value
        box = [value if self.is_main else None]
        cpu, control = torch.device("cpu"), self.control
        self._together("word from rank 0", lambda: dist.broadcast_object_list(box, src=0, group=control, device=cpu))
        return box[0]

    def add_up(self, table: Tensor) -> Tensor:
        """The sum of every rank's table, on the CPU."""
        table = table.cpu()
        if self.world_size > 1:
            self._together("the other ranks' validation", lambda: dist.all_reduce(table, group=self.control))
        return table

    def _together(self, what: str, call: Callable[[], object]) -> None:
        """Make a collective of control, on a thread of its own, so that this one hears signals and verdicts."""
        done, failures = threading.Event(), []

        def run() -> None:
            try:
                if self.device.type == "cuda":
                    torch.cuda.set_device(self.device)  # a thread begins with the first GPU
                call()
            except BaseException as failure:
                failures.append(failure)
            done.set()

        thread = threading.Thread(target=run, name="collective", daemon=True)
        with self.waiting(what, AGREE_SEC, stop_after_sec=1.0), lost_peers(f"waiting for {what}"):
            thread.start()
            while not done.wait(POLL_SEC):
                self.watchdog.check()
            thread.join()
            if failures:
                raise failures[0]

    def waiting(self, what: str, limit_sec: float, *, stop_after_sec: float = 30.0) -> AbstractContextManager[None]:
        """While this rank may have to wait for the others; see Watchdog.waiting."""
        return self.watchdog.waiting(
            what, limit_sec, setting="peer_timeout_sec" if limit_sec == self.peer_sec else "",
            needs_peers=self.world_size > 1, stop_after_sec=stop_after_sec,
        )  # fmt: skip

    def start_maximum(self, flags: Tensor) -> dist.Work | None:
        """Begin to replace flags by the largest of all ranks, element by element; ``finish`` it to use them."""
        return dist.all_reduce(flags, op=dist.ReduceOp.MAX, async_op=True) if self.world_size > 1 else None

    def finish(self, work: dist.Work | None) -> None:
        """Wait for a collective that was begun; on a GPU the device waits, this thread does not.

        Raises: PeerLostError and what else the watchdog says.
        """
        if work is None:
            return
        future = work.get_future()
        while self.device.type == "cpu" and not future.done():
            self.watchdog.check()
            time.sleep(POLL_SEC / 100)
        work.wait()

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank rank 0's batch-norm statistics: in training each rank keeps its own."""
        buffers = list(model.buffers())
        if self.world_size > 1 and buffers:
            group = dist.distributed_c10d._get_default_group()
            self._together(
                "batch-norm statistics of rank 0",
                lambda: _broadcast_coalesced(group, buffers, _BUCKET_BYTES, 0),
            )

    def wrap(self, model: nn.Module, *, gradients: str = "fp32") -> nn.Module:
        """The model with gradients averaged over the ranks, overlapped with the backward pass.

        Args: gradients, ``fp32`` or ``bf16``: the format in which they travel.
        Rank 0's weights are given to all. On the CPU buckets stay as they are first laid out: torch would lay them out
        anew after the first step, and with three or more ranks sums would then be added in another order after a
        restart.
        """
        if self.world_size == 1:
            return model
        on_gpu = self.device.type == "cuda"
        # Heads of 1x1 convolutions have strides that mean nothing; torch copies them and says so at length.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with self.waiting("weights of rank 0", AGREE_SEC), lost_peers("sharing the weights"):
            wrapped = nn.parallel.DistributedDataParallel(
                model,
                device_ids=[self.device.index] if on_gpu else None,
                gradient_as_bucket_view=True,
                find_unused_parameters=not on_gpu,
                # Nothing in a training step reads them; share_buffers does what is needed, when it is.
                broadcast_buffers=False,
            )
        if gradients == "bf16":
            wrapped.register_comm_hook(None, bf16_compress_hook)
        return wrapped

    def report_failure(self, message: str, exit_code: int) -> None:
        """Tell the other ranks why this one ends, so that they do not just find it gone. Never raises."""
        if self.watchdog.peers is not None:
            self.watchdog.peers.report(message, exit_code)

    def failure_elsewhere(self, wait_sec: float = 2.0) -> Failure | None:
        """Why another rank ended first, if it said so."""
        return None if self.watchdog.peers is None else self.watchdog.peers.failure_within(wait_sec)

    def unwatch(self) -> None:
        """Look no longer after this rank and the others."""
        self.watchdog.close()
        if self.watchdog.peers is not None:
            self.watchdog.peers.close()

    def leave(self) -> None:
        """End the process group."""
        self.unwatch()
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join(
    rank_env: RankEnv,
    device: torch.device,
    stop: Stop,
    *,
    rendezvous_sec: float = RENDEZVOUS_SEC,
    peer_sec: float = PEER_SEC,
    end: Callable[[int], object] = os._exit,
) -> Group:
    """Find the other ranks, and begin to watch over them and this one.

    Args: peer_sec, how long a rank waits for another in a step; end, ends the process when nothing else can.
    Raises: PeerLostError if they do not come in time; TerminatedError.
    """
    if rank_env.world_size == 1:
        watchdog = Watchdog(stop, end=end)
        watchdog.start()
        return Group(rank_env, device, watchdog=watchdog, peer_sec=peer_sec)
    if rank_env.master_addr in _LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's own name may lead nowhere
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
        # A little longer than our own deadline, which knows what to say.
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
    keys = {rank: alive_key(rank) for rank in range(rank_env.world_size)}
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
    if is_out_of_memory(error) or is_lost_gpu(error):
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(mark in text for mark in _LOST_MARKS)
