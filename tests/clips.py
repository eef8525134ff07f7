"""One clip of one file, whatever else a reader keeps open."""

from pathlib import Path

import numpy as np

from tsp.data.video.reader import ClipReader


def read_clip(path: str | Path, start_sec: float, *, length_frames: int = 16, rate_fps: float = 15.0) -> np.ndarray:
    """uint8 RGB [T, H, W, 3]."""
    reader = ClipReader(length_frames=length_frames, rate_fps=rate_fps)
    try:
        return reader.read(path, start_sec)
    finally:
        reader.close()
