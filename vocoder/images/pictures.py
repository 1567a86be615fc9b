"""Grids of images: one fixed range of brightness, and damage shown, not hidden."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.errors import VocoderError

_NON_FINITE = (255, 0, 255)  # magenta, which photographs hardly hold
_GAP = (128, 128, 128)


def grid(
    images: Tensor, n_values: int = 256, *, n_columns: int | None = None, gap: int = 2
) -> npt.NDArray[np.uint8]:
    """Lay images out in rows; -0.5 is black and 0.5 white, whatever else the grid holds.

    Args:
        images: (B, C, H, W), C being 1 or 3; what lies beyond [-0.5, 0.5] is clipped, and a pixel
            with a channel that is NaN or infinite becomes magenta.
        n_values: how many values a pixel can have; the greatest is white.
        n_columns: images in a row; by default as many as make the grid nearly square.
        gap: pixels between images, in grey.

    Returns:
        Pixels (rows, columns, 3).

    Raises:
        VocoderError: they are not such images, or there are none.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise VocoderError(
            f"images: shape {tuple(images.shape)}; a picture shows (B, C, H, W) with C 1 or 3"
        )
    if n_columns is not None and n_columns < 1:
        raise VocoderError(f"n_columns: must be positive, is {n_columns}")
    count, _, height, width = images.shape
    columns = min(n_columns or math.ceil(math.sqrt(count)), count)
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.full(shape, _GAP, np.uint8)
    for index, pixels in enumerate(_pixels(images, n_values)):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = pixels
    return canvas


def _pixels(images: Tensor, n_values: int) -> npt.NDArray[np.uint8]:
    """Return (B, H, W, 3)."""
    x = images.detach().float().cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    values = ((x.nan_to_num() + 0.5) * n_values).floor().clamp(0, n_values - 1)
    levels = (values * 255 / (n_values - 1)).round().to(torch.uint8)
    levels[~x.isfinite().all(dim=3)] = torch.tensor(_NON_FINITE, dtype=torch.uint8)
    return levels.numpy()


def count_non_finite(images: Tensor) -> int:
    """Return how many of the images (B, ...) hold a NaN or an infinity."""
    return int((~torch.isfinite(images)).flatten(1).any(dim=1).sum())
