"""Between a waveform and its rows."""

from __future__ import annotations

from torch import Tensor


def fold_rows(x: Tensor, n_height: int) -> Tensor:
    """Fold (..., N) into rows (..., H, W), W = N / H: row h, column w holds sample w · H + h."""
    return x.unflatten(-1, (-1, n_height)).transpose(-1, -2)


def unfold_rows(rows: Tensor) -> Tensor:
    """Undo `fold_rows`: (..., H, W) to (..., N)."""
    return rows.transpose(-1, -2).flatten(-2)
