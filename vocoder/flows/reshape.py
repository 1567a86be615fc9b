"""Between data and the arrays that flows work on: waveform and rows, pixels and channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fold_rows(x: Tensor, n_height: int) -> Tensor:
    """Fold (..., N) into rows (..., H, W), W = N / H: row h, column w holds sample w · H + h."""
    if x.shape[-1] % n_height:
        raise ValueError(f"{x.shape[-1]} samples are not a multiple of the {n_height} rows")
    return x.unflatten(-1, (-1, n_height)).transpose(-1, -2)


def unfold_rows(rows: Tensor) -> Tensor:
    """Undo `fold_rows`: (..., H, W) to (..., N)."""
    return rows.transpose(-1, -2).flatten(-2)


def squeeze1d(x: Tensor, factor: int) -> Tensor:
    """Turn (B, C, T) into (B, C · n, T / n): channel n · c + s, column t holds c at n · t + s."""
    return fold_rows(x, factor).flatten(1, 2)


def unsqueeze1d(x: Tensor, factor: int) -> Tensor:
    """Undo `squeeze1d`."""
    return unfold_rows(x.unflatten(1, (-1, factor)))


def squeeze2d(x: Tensor) -> Tensor:
    """Turn (B, C, H, W) into (B, 4C, H/2, W/2): channel 4c + 2dy + dx holds pixel (dy, dx) of c."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze2d(x: Tensor) -> Tensor:
    """Undo `squeeze2d`."""
    return F.pixel_shuffle(x, 2)
