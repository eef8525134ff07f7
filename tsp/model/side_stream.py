"""A second stream of a GPU, on which the next input is copied and prepared while the model computes."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


class SideStream:
    """A stream in addition to the current one; on a CPU there is none, and this does nothing."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self) -> AbstractContextManager[object]:
        """Context whose operations are queued on the side stream."""
        return torch.cuda.stream(self._stream)

    def hand_over(self, *tensors: Tensor | None) -> None:
        """Let the current stream use tensors of the side stream: it waits for the work queued there so far.

        Their memory is not reused before the current stream is done with them.
        """
        if self._stream is None:
            return
        user = torch.cuda.current_stream(self._device)
        user.wait_stream(self._stream)
        for tensor in tensors:
            if tensor is not None:
                tensor.record_stream(user)
