"""The published system's clip reader, re-implemented: the baseline of ``bench_decode``.

The reader is the one of torchvision 0.5: seek back to a key frame, decode everything up to the clip's end, the audio as
well, turn all frames into full-resolution RGB and stack them; then the transforms in float on full frames.
"""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

GC_INTERVAL = 10
_calls = 0


def read_clip(path: Path, start_sec: float, fps: float = 30.0) -> np.ndarray:
    """uint8 [16, H, W, 3] of the clip at 15 fps that starts at start_sec."""
    end_sec = start_sec + 16 / 15
    with av.open(str(path), metadata_errors="ignore") as container:
        frames = _read_stream(container, start_sec, end_sec, container.streams.video[0], {"video": 0})
        images = [frame.to_rgb().to_ndarray() for frame in frames]
        if container.streams.audio:
            audio = _read_stream(container, start_sec, end_sec, container.streams.audio[0], {"audio": 0})
            np.concatenate([frame.to_ndarray() for frame in audio], 1)
    stacked = torch.as_tensor(np.stack(images))
    return stacked[:: int(fps / 15)][:16].numpy()


def _read_stream(container: Any, start_sec: float, end_sec: float, stream: Any, which: dict[str, int]) -> list[Any]:
    global _calls
    _calls += 1
    if _calls % GC_INTERVAL == GC_INTERVAL - 1:
        gc.collect()
    start, end = math.floor(start_sec * (1 / stream.time_base)), math.ceil(end_sec * (1 / stream.time_base))
    frames = {}
    container.seek(max(start - 1, 0), any_frame=False, backward=True, stream=stream)
    for frame in container.decode(**which):
        frames[frame.pts] = frame
        if frame.pts >= end:
            break
    result = [frames[pts] for pts in sorted(frames) if start <= pts <= end]
    before = [pts for pts in frames if pts < start]
    if start > 0 and start not in frames and before:
        result.insert(0, frames[max(before)])
    return result


def transform(clip_THWC: np.ndarray, row: int = 8, column: int = 30) -> Tensor:
    """float32 [3, 16, 112, 112]."""
    video = torch.from_numpy(clip_THWC).permute(3, 0, 1, 2).to(torch.float32) / 255
    video = functional.interpolate(video, size=(128, 171), scale_factor=None, mode="bilinear", align_corners=False)
    mean = torch.as_tensor((0.43216, 0.394666, 0.37645)).reshape(3, 1, 1, 1)
    std = torch.as_tensor((0.22803, 0.22145, 0.216989)).reshape(3, 1, 1, 1)
    return ((video - mean) / std)[..., row : row + 112, column : column + 112]
