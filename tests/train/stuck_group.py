"""A process group in Python whose sums, from a chosen one on, never end, or end with an error after a while."""

from __future__ import annotations

import threading

import torch
import torch.distributed as dist

NEVER, LATE = "never", "late"


class StuckGroup(dist.ProcessGroup):
    """gloo, until it is stuck."""

    def __init__(self, store, rank, size, timeout, *, kind, after):
        super().__init__(rank, size)
        self._inner = dist.ProcessGroupGloo(store, rank, size, timeout)
        self._left, self._kind = after, kind

    def getBackendName(self):  # noqa: N802
        return "stuck"

    def allreduce(self, tensors, opts=None):
        self._left -= 1
        if self._left >= 0:
            return self._inner.allreduce(tensors, opts or dist.AllreduceOptions())
        if self._kind == LATE and opts.reduceOp != dist.ReduceOp.MAX:
            # A gradient's: torch's C++ takes no error from Python.
            return self._inner.allreduce(tensors, opts)
        future = torch.futures.Future()
        if self._kind == LATE:
            threading.Timer(0.5, future.set_result, (None,)).start()
        return StuckWork(future, self._kind)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def broadcast(self, tensors, opts=None):
        return self._inner.broadcast(tensors, opts or dist.BroadcastOptions())

    def allgather(self, outputs, inputs, opts=None):
        return self._inner.allgather(outputs, inputs, opts or dist.AllgatherOptions())

    def barrier(self, opts=None):
        return self._inner.barrier(opts or dist.BarrierOptions())


class StuckWork(dist._Work):
    def __init__(self, future, kind):
        super().__init__()
        self._future, self._kind = future, kind

    def wait(self, timeout=None):
        self._future.wait()
        if self._kind == LATE:
            raise RuntimeError("NCCL communicator was aborted on rank 1.")
        return True

    def get_future(self):
        return self._future


def use(kind, after):
    """Sum with such a group from now on, in this process."""
    from tsp.train import distributed

    def create(store, rank, size, timeout):
        return StuckGroup(store, rank, size, timeout, kind=kind, after=after)

    dist.Backend.register_backend("stuck", create, devices=["cpu"])
    distributed.BACKENDS["cpu"] = "stuck"
