"""Annotations and features in memory that all data workers share: passed by handle, never copied."""

from __future__ import annotations

import errno
import math
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tsp.data.segments import Segment, SegmentCounts, SegmentTable
from tsp.data.tables import video_name
from tsp.errors import ConfigError, StalledError, TspError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108, what the kernel calls it
BATCHES_PER_WORKER = 2
"""Finished batches that each data worker may queue."""
_MIB = 1 << 20
_SHARED: list[int] = []
"""Bytes of annotations that this process has copied to shared memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedSegments:
    """A SegmentTable in shared memory, file names included. S segments, F files, H heads."""

    path: str
    counts: SegmentCounts
    name_bytes: Tensor
    """uint8: all file names, one after the other, UTF-8."""
    name_ends: Tensor
    """int64 [F]"""
    file_index: Tensor
    """int32 [S]"""
    times: Tensor
    """float64 [S, 3]: start_sec, end_sec, file_fps (nan where unknown)."""
    labels: Tensor
    """int64 [S, H]"""
    rows: Tensor
    """int32 [S]"""

    @classmethod
    def of(cls, table: SegmentTable) -> SharedSegments:
        """Copy the table to shared memory, once."""
        names = [name.encode() for name in table.filenames]
        return cls(
            path=table.path,
            counts=table.counts,
            name_bytes=to_shared(np.frombuffer(b"".join(names), np.uint8)),
            name_ends=to_shared(np.cumsum([len(name) for name in names], dtype=np.int64)),
            file_index=to_shared(table.file_index),
            times=to_shared(np.stack([table.starts_sec, table.ends_sec, table.rates_fps], axis=1)),
            labels=to_shared(table.labels),
            rows=to_shared(table.rows),
        )

    def __len__(self) -> int:
        return len(self.file_index)

    def filename(self, file: int) -> str:
        """Name of a file by its number."""
        begin = int(self.name_ends[file - 1]) if file else 0
        return self.name_bytes[begin : int(self.name_ends[file])].numpy().tobytes().decode()

    def __getitem__(self, index: int) -> Segment:
        filename = self.filename(int(self.file_index[index]))
        start_sec, end_sec, fps = self.times[index].tolist()
        return Segment(
            video=video_name(filename),
            filename=filename,
            start_sec=start_sec,
            end_sec=end_sec,
            labels=tuple(self.labels[index].tolist()),
            file_fps=None if math.isnan(fps) else fps,
            row=int(self.rows[index]),
        )


def to_shared(array: np.ndarray) -> Tensor:
    """A copy of the array in shared memory.

    Raises: ConfigError or StalledError if it does not fit, or there is no shared memory to use.
    """
    try:
        shared: Tensor = torch.from_numpy(np.array(array)).share_memory_()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        raise _explain_refused(error, sum(_SHARED) + _whole_pages(array.nbytes)) from error
    _SHARED.append(_whole_pages(array.nbytes))
    return shared


def _whole_pages(num_bytes: int) -> int:
    return -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def empty_batch(*shape: int) -> Tensor:
    """An uninitialised uint8 tensor; in a data worker it is in shared memory, so that sending it copies nothing.

    Raises: ConfigError or StalledError if it does not fit into shared memory.
    """
    worker = torch.utils.data.get_worker_info()
    if worker is None:
        return torch.empty(shape, dtype=torch.uint8)
    num_bytes = math.prod(shape)
    try:
        # What torch's own collation does.
        storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]
        if SHARED_MEMORY.is_dir() and hasattr(os, "posix_fallocate"):
            # Otherwise the first use of a page that does not fit kills the process with SIGBUS, without a message.
            os.posix_fallocate(storage._share_fd_cpu_()[0], 0, num_bytes)
    except (OSError, RuntimeError) as error:
        raise explain_full_shared_memory("a batch did not fit", worker.num_workers, num_bytes) from error
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def check_shared_memory(batch_bytes: int, num_workers: int) -> None:
    """Refuse to start if shared memory cannot hold a batch per worker.

    Raises: ConfigError.
    """
    if num_workers and SHARED_MEMORY.is_dir() and _size_and_free_bytes()[0] < batch_bytes * num_workers:
        raise explain_full_shared_memory("shared memory is too small", num_workers, batch_bytes)


def has_room(batch_bytes: int, num_workers: int) -> bool:
    """Whether shared memory has room for all batches that workers may queue, in addition to its current content."""
    if not SHARED_MEMORY.is_dir():
        return True
    return _size_and_free_bytes()[1] >= BATCHES_PER_WORKER * num_workers * batch_bytes


def has_room_for_two(batch_bytes: int, num_workers: int) -> bool:
    """The same for a second loader in addition to one that may still fill its own share; each has one more batch in
    use."""
    both_bytes = 2 * (BATCHES_PER_WORKER * num_workers + 1) * batch_bytes
    return has_room(batch_bytes, num_workers) and (
        not SHARED_MEMORY.is_dir() or _size_and_free_bytes()[0] >= both_bytes
    )


def fitting_workers(batch_bytes: int, num_workers: int) -> int:
    """This number of workers, or the number that shared memory has room for, but at least one."""
    return next((fewer for fewer in range(num_workers, 1, -1) if has_room(batch_bytes, fewer)), 1)


def explain_full_shared_memory(what: str, num_workers: int, batch_bytes: int = 0) -> TspError:
    """The error for full shared memory: permanent if it is too small, else retryable."""
    needed_bytes = BATCHES_PER_WORKER * num_workers * batch_bytes
    detail = ""
    if batch_bytes:
        detail = (
            f"; {num_workers} data workers keep up to {BATCHES_PER_WORKER * num_workers} batches of "
            f"{batch_bytes / _MIB:.0f} MiB there, {needed_bytes / _MIB:.0f} MiB in total"
        )
    return _explain_full(what, needed_bytes, detail, ", or set fewer data.workers")


def _explain_refused(error: Exception, needed_bytes: int) -> TspError:
    """The error for annotations that torch could not copy to shared memory; it tells the reason in text only.

    Args: needed_bytes, of these and of those before them.
    """
    told = re.search(r": ([^:]+) \((\d+)\)$", str(error).splitlines()[0])
    if told is None or int(told[2]) == errno.ENOSPC:
        return _explain_full("the annotations did not fit into shared memory", needed_bytes)
    cure = "raise 'ulimit -n'" if int(told[2]) == errno.EMFILE else "it must be a tmpfs that this user may write to"
    return ConfigError(f"the annotations cannot be shared in {SHARED_MEMORY} ({told[1]}): {cure}")


def _explain_full(what: str, needed_bytes: int, detail: str = "", cure: str = "") -> TspError:
    size_bytes, free_bytes = _size_and_free_bytes()
    text = f"{what}: {SHARED_MEMORY} has {size_bytes / _MIB:.0f} MiB, {free_bytes / _MIB:.0f} of them free{detail}"
    if size_bytes >= needed_bytes > 0:
        return StalledError(f"{text}: check what else uses it")
    return ConfigError(f"{text}: make it larger (shm.sizeLimit of the chart, docker run --shm-size){cure}")


def _size_and_free_bytes() -> tuple[int, int]:
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0, 0
    return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
