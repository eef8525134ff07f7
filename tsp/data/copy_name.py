"""What readers must know of training copies without loading what writes them: their name and their frames' width."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".train.mov"


def training_copy_name(filename: str) -> str:
    """File name of a video's training copy, which lies in the same folder."""
    return str(Path(filename).with_suffix(SUFFIX))


def stored_width(width_px: int) -> int:
    """Width of the stored frames: QuickTime pads raw rows to an even width in a way that decoders disagree about."""
    return width_px + width_px % 2
