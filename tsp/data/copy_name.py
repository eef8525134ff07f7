"""Facts about training copies for readers, without importing their writer: their name and the width of their frames."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".train.mov"


def training_copy_name(filename: str) -> str:
    """File name of a video's training copy, which lies in the same folder."""
    return str(Path(filename).with_suffix(SUFFIX))


def stored_width(width_px: int) -> int:
    """Width of the stored frames: QuickTime pads raw rows to an even width in a way that decoders disagree about."""
    return width_px + width_px % 2
