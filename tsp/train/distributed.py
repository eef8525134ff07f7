"""The ranks of a run: meeting, agreeing, reducing, and noticing that one is lost.

The problem: pods start minutes apart and die at any moment, and torch's own reactions to a lost peer are an abort
(NCCL's watchdog) or half an hour of silence.
The idea: ranks meet at a key-value store that rank 0 opens, in which a rank also reports why it fails; control messages
use gloo on the CPU, gradients use NCCL on GPUs.
Invariants: every rank makes the same collectives in the same order; every error of torch for a lost peer becomes
PeerLostError here; with one rank there is no process group and nothing to wait for.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import _broadcast_coalesced
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from tsp.config.variables import MOST_PORT, whole_number
from tsp.errors import PeerLostError
from tsp.model.gpu_errors import is_lost_gpu, is_out_of_memory
from tsp.run.ownership import OWNER_VARIABLE
from tsp.run.pod_ranks import MASTER_PORT, member_of
from tsp.train.peers import Failure
from tsp.train.stop_signal import Stop
from tsp.train.watchdog import Watchdog

PEER_SEC = 300.0
"""How long a rank waits for another within a step, by default."""
AGREE_SEC = 1800.0
"""How long a rank waits for another between steps, where one may still download or decode. A rank without heartbeats is
noticed much earlier."""
POLL_SEC = 0.02
_REPORTED_WITHIN_SEC = 2.0
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
"""Device -> backend that reduces its tensors. Control messages always go over the CPU's."""
_BUCKET_BYTES = 250 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RankEnv:
    """Who this process is, according to its launcher."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int = MASTER_PORT
    owner: str = ""
    """Who started the ranks (``tsp.run.ownership``)."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> RankEnv:
        """RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; a single rank if they are not set.

        Raises: ConfigError naming the variable.
        """
        rank, world_size = member_of(env)
        return cls(
            rank=rank,
            world_size=world_size,
            local_rank=whole_number(env, "LOCAL_RANK", 0),
            master_addr=env.get("MASTER_ADDR") or "127.0.0.1",
            master_port=whole_number(env, "MASTER_PORT", MASTER_PORT, least=1, most=MOST_PORT),
            owner=env.get(OWNER_VARIABLE) or "",
        )


class Group:
    """A rank's connection to the others; build it with ``join``."""

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
        """For host-side values; has a long timeout."""

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
        """The sum of all ranks' tables, on the CPU."""
        table = table.cpu()
        if self.world_size > 1:
            self._together("the other ranks' validation", lambda: dist.all_reduce(table, group=self.control))
        return table

    def _together(self, what: str, call: Callable[[], object]) -> None:
        """Run a control collective on its own thread, so that this one sees signals and verdicts."""
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
        """Context in which this rank may wait for the others; see Watchdog.waiting."""
        return self.watchdog.waiting(
            what, limit_sec, setting="peer_timeout_sec" if limit_sec == self.peer_sec else "",
            needs_peers=self.world_size > 1, stop_after_sec=stop_after_sec,
        )  # fmt: skip

    def start_maximum(self, flags: Tensor) -> dist.Work | None:
        """Start the element-wise maximum of flags over all ranks, in place; ``finish`` it to use them."""
        return dist.all_reduce(flags, op=dist.ReduceOp.MAX, async_op=True) if self.world_size > 1 else None

    def finish(self, work: dist.Work | None) -> None:
        """Wait for a started collective; on a GPU the device waits, this thread does not.

        Raises: PeerLostError, or another verdict of the watchdog.
        """
        if work is None:
            return
        future = work.get_future()
        while self.device.type == "cpu" and not future.done():
            self.watchdog.check()
            time.sleep(POLL_SEC / 100)
        work.wait()

    def share_buffers(self, model: nn.Module) -> None:
        """Copy rank 0's batch-norm statistics to every rank; in training each rank keeps its own."""
        buffers = list(model.buffers())
        if self.world_size > 1 and buffers:
            group = dist.distributed_c10d._get_default_group()
            self._together(
                "batch-norm statistics of rank 0",
                lambda: _broadcast_coalesced(group, buffers, _BUCKET_BYTES, 0),
            )

    def wrap(self, model: nn.Module, *, gradients: str = "fp32") -> nn.Module:
        """The model with gradients averaged over the ranks, overlapped with the backward pass.

        Args: gradients, ``fp32`` or ``bf16``: the format in which they are exchanged.
        Rank 0's weights are copied to all. On the CPU buckets keep their first layout: torch would rebuild them after
        the first step, and with three or more ranks a restart would then sum in another order.
        """
        if self.world_size == 1:
            return model
        on_gpu = self.device.type == "cuda"
        # Strides of 1x1 heads are meaningless; torch copies them, with a long warning.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # Older versions of torch know no other name for it.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        with self.waiting("weights of rank 0", AGREE_SEC), lost_peers("sharing the weights"):
            wrapped = nn.parallel.DistributedDataParallel(
                model,
                device_ids=[self.device.index] if on_gpu else None,
                gradient_as_bucket_view=True,
                find_unused_parameters=not on_gpu,
                # Nothing in a training step reads them; share_buffers copies them before validation and saving.
                broadcast_buffers=False,
            )
        if gradients == "bf16":
            wrapped.register_comm_hook(None, bf16_compress_hook)
        return wrapped

    def report_failure(self, message: str, exit_code: int) -> None:
        """Tell the other ranks why this one ends. Never raises."""
        if self.watchdog.peers is not None:
            self.watchdog.peers.report(message, exit_code)

    def failure_elsewhere(self) -> Failure | None:
        """Why another rank ended first, if it reported that by now or does so in a moment."""
        return None if self.watchdog.peers is None else self.watchdog.peers.failure_within(_REPORTED_WITHIN_SEC)

    def unwatch(self) -> None:
        """Stop watching this rank and the others."""
        self.watchdog.close()
        if self.watchdog.peers is not None:
            self.watchdog.peers.close()

    def leave(self) -> None:
        """End the process group."""
        self.unwatch()
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def lost_peers(doing: str) -> Iterator[None]:
    """Turn torch's many errors for a lost rank into PeerLostError."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise PeerLostError(f"another rank was lost while {doing}: {str(error).splitlines()[0][:300]}") from error


_LOST_MARKS = ("gloo", "nccl", "connection closed", "connection reset", "connection refused", "broken pipe",
               "timed out", "timeout", "socket", "process group")  # fmt: skip


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error of torch means that another rank is lost."""
    if is_out_of_memory(error) or is_lost_gpu(error):
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(mark in text for mark in _LOST_MARKS)
