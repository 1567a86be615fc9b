"""Between a waveform and its rows."""

from __future__ import annotations

from torch import Tensor


def fold_rows(x: Tensor, n_height: int) -> Tensor:
    """Fold (..., N) into rows (..., H, W), W = N / H: row h, column w holds sample w · H + h."""
    if x.shape[-1] % n_height:
        raise ValueError(f"{x.shape[-1]} samples are not a multiple of the {n_height} rows")
    return x.unflatten(-1, (-1, n_height)).transpose(-1, -2)


def unfold_rows(rows: Tensor) -> Tensor:
    """Undo `fold_rows`: (..., H, W) to (..., N)."""
    return rows.transpose(-1, -2).flatten(-2)
