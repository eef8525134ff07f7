"""Annotations and features in memory that all data workers share: passed by handle, never copied."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsp.data.segments import Segment, SegmentCounts, SegmentTable
from tsp.data.tables import video_name


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
    """A copy of the array in shared memory."""
    shared: Tensor = torch.from_numpy(np.array(array)).share_memory_()  # type: ignore[no-untyped-call]
    return shared


def empty_batch(*shape: int) -> Tensor:
    """An uninitialised uint8 tensor; in a data worker it lies in shared memory, so that sending it copies nothing."""
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    # What torch's own collation does.
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(math.prod(shape))  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
