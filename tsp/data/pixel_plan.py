"""Determines the pixels of a frame that a clip needs, and gathers them; without torch, for decoding processes.

A bilinear resize of a crop reads two rows and two columns of the source for each pixel. A worker gathers just
those, [2 * crop, 2 * crop] of them, whatever the size of the video, so clips of mixed sizes make one uint8 batch. The
weights follow in float32, and the device blends (``tsp.data.transforms``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SourceIndex = np.ndarray | tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Crop:
    """Which part of the resized frame a clip shows."""

    row: int
    column: int
    """Of the flipped frame, where it is flipped."""
    flip: bool = False


def central_crop(resize_height_px: int, resize_width_px: int, crop_px: int) -> Crop:
    """The validation crop: offsets are rounded half to even, as torchvision's are."""
    return Crop(row=round((resize_height_px - crop_px) / 2), column=round((resize_width_px - crop_px) / 2))


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """Which source rows and columns the crop's pixels blend, and with which weights; C is the crop's side."""

    rows: np.ndarray
    """int64 [2C]: upper and lower source row of each output row, interleaved."""
    columns: np.ndarray
    """int64 [2C]: left and right source column of each output column."""
    row_weights: np.ndarray
    """float32 [C]: share of the lower row."""
    column_weights: np.ndarray
    """float32 [C]: share of the right column."""

    def source_index(self, stride: int) -> np.ndarray:
        """int64 [2C, 2C]: the offset of each pixel to gather in a frame whose rows are stride pixels apart."""
        index: np.ndarray = self.rows[:, None] * stride + self.columns
        return index

    def crop_index(self) -> tuple[slice, slice]:
        """Rows and columns of the crop, for frames that were stored resized."""
        first, last = int(self.columns[0]), int(self.columns[-1])
        columns = slice(first, last + 1) if first <= last else slice(first, last - 1 if last else None, -1)
        return slice(int(self.rows[0]), int(self.rows[-1]) + 1), columns


def gather(pixels_HS: np.ndarray, index: SourceIndex, out: np.ndarray) -> None:
    """Copy the pixels at ``index`` of one frame.

    Args: pixels_HS, uint32; index, from ``source_index(S)``, for which pixels_HS is to be contiguous, or
        ``crop_index()``; out, uint32 [2C, 2C] or [C, C].
        One look-up of whole pixels is the fastest exact way: 0.04 ms per frame; rows then columns take 0.06, bytes
        0.15.
    """
    if isinstance(index, tuple):
        np.copyto(out, pixels_HS[index])
        return
    # The index is in bounds by construction; "clip" spares numpy a buffered copy.
    np.take(pixels_HS.reshape(-1), index, out=out, mode="clip")


def plan_pixels(
    source_height_px: int,
    source_width_px: int,
    *,
    resize_height_px: int,
    resize_width_px: int,
    crop_px: int,
    crop: Crop,
) -> PixelPlan:
    """The plan for frames of one size. Half-pixel centres, no antialiasing; flip before crop.

    Source: torch.nn.functional.interpolate(mode="bilinear", align_corners=False), whose float32 arithmetic is kept.
    """
    wanted_rows = np.arange(crop.row, crop.row + crop_px)
    wanted_columns = np.arange(crop.column, crop.column + crop_px)
    if crop.flip:
        wanted_columns = resize_width_px - 1 - wanted_columns
    rows, row_weights = _taps(source_height_px, resize_height_px, wanted_rows)
    columns, column_weights = _taps(source_width_px, resize_width_px, wanted_columns)
    return PixelPlan(rows, columns, row_weights, column_weights)


def plan_resized(*, resize_width_px: int, crop_px: int, crop: Crop) -> PixelPlan:
    """The plan for frames that were stored resized: the crop's own pixels, [C] rows and columns, and no weights."""
    columns = np.arange(crop.column, crop.column + crop_px)
    none = np.empty(0, np.float32)
    return PixelPlan(
        np.arange(crop.row, crop.row + crop_px), resize_width_px - 1 - columns if crop.flip else columns, none, none
    )


def _taps(source_px: int, resized_px: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interleaved source indices [2N] and the weight of the second of each pair [N]."""
    scale = np.float32(source_px) / np.float32(resized_px)
    centre = np.maximum(scale * (wanted.astype(np.float32) + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    lower = centre.astype(np.int64)
    upper = np.minimum(lower + 1, source_px - 1)
    return np.stack([lower, upper], axis=1).reshape(-1), centre - lower.astype(np.float32)
