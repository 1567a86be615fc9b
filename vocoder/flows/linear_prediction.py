"""A flow step that whitens sound by linear prediction, with filters that change over time.

The filters come from autocorrelations, one set a frame, which the caller knows without the sound:
from its mel. Each filter is monic, causal and minimum-phase, so that the step is an exact bijection
with a simple Jacobian, and its inverse is stable. The published idea of shaping the noise by the
mel (PriorGrad, ICLR 2022; SpecGrad, Interspeech 2022) becomes exact for a flow in this way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.flows.base import Bijection


class Filters(NamedTuple):
    """Linear predictors, one set for each block of samples.

    Attributes:
        coefficients: The predictors a_1 … a_p of each block, (B, T, p).
        gains: The deviation g of what they leave of each block, (B, T).
        block_length: Samples L of a block.
    """

    coefficients: Tensor
    gains: Tensor
    block_length: int


class LinearPrediction(Bijection[[Filters, Tensor | None]]):
    """z[n] = (x[n] + Σ a_k x[n − k]) / g[n], k = 1 … p.

    What comes before the first sample is the history, or silence.
    """

    def forward(
        self, x: Tensor, filters: Filters, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map sound to its excitation.

        Args:
            x: Sound (B, T · L).
            filters: One set of coefficients for each block.
            history: The p samples (B, p) before x; None is silence.

        Returns:
            The excitation z (B, T · L) and the log-determinant (B,), −Σ ln g.
        """
        a, gains, length = filters
        order = a.shape[-1]
        past = x.new_zeros(len(x), order) if history is None else history
        # One window a block: the p samples before it, and its own L.
        windows = torch.cat([past, x], dim=1).unfold(1, order + length, length)
        taps = F.pad(a.flip(-1), (0, 1), value=1.0)  # (B, T, p + 1), for x[n − p] … x[n]
        z = (windows.unfold(2, order + 1, 1) @ taps.unsqueeze(-1)).squeeze(-1)
        z = z / gains.unsqueeze(-1)
        return z.flatten(1), -length * gains.log().sum(dim=1)

    def inverse(self, z: Tensor, filters: Filters, history: Tensor | None = None) -> Tensor:
        """Map an excitation to sound; the arguments are those of `forward`.

        A block y solves A y = g z − A_past s, where A is triangular and s holds the p samples
        before it. All blocks are solved at once for any s, so that only s goes from block to block.
        """
        a, gains, length = filters
        n_items, n_blocks, order = a.shape
        if order == 0:
            return (z.unflatten(1, (n_blocks, length)) * gains.unsqueeze(-1)).flatten(1)
        own, past = _toeplitz(a, length)
        excited = (z.unflatten(1, (n_blocks, length)) * gains.unsqueeze(-1)).unsqueeze(-1)
        solved = torch.linalg.solve_triangular(
            own, torch.cat([excited, -past], dim=-1), upper=False, unitriangular=True
        )
        free, response = solved[..., 0], solved[..., 1:]
        state = z.new_zeros(n_items, order) if history is None else history
        blocks = []
        for block in range(n_blocks):
            y = torch.baddbmm(
                free[:, block].unsqueeze(-1), response[:, block], state.unsqueeze(-1)
            ).squeeze(-1)
            blocks.append(y)
            state = torch.cat([state, y], dim=1)[:, -order:]
        return torch.cat(blocks, dim=1)


def levinson(r: Tensor) -> tuple[Tensor, Tensor]:
    """Solve the normal equations of linear prediction (Levinson 1947, Durbin 1960).

    Args:
        r: Autocorrelations (..., p + 1) at the lags 0 to p, positive definite.

    Returns:
        The coefficients a_1 … a_p (..., p), and the deviation (...) of the residual.
    """
    error = r[..., 0]
    a = r.new_zeros(*r.shape[:-1], 0)
    for order in range(1, r.shape[-1]):
        reflection = -(r[..., order] + (a * r[..., 1:order].flip(-1)).sum(dim=-1)) / error
        # Rounding alone could leave the unit circle, beyond which the inverse is not stable.
        reflection = reflection.clamp(-0.99999, 0.99999)
        a = torch.cat([a + reflection.unsqueeze(-1) * a.flip(-1), reflection.unsqueeze(-1)], dim=-1)
        error = error * (1 - reflection.square())
    return a, error.sqrt()


def interpolate_frames(
    r: Tensor, hop_length: int, block_length: int, centre: int, lo: int, hi: int
) -> Tensor:
    """Interpolate autocorrelations linearly from frames to blocks.

    A mixture of autocorrelations stays positive definite, which one of coefficients would not.

    Args:
        r: Autocorrelations (B, F, p + 1), one set a frame.
        hop_length: Samples per frame.
        block_length: Samples of a block.
        centre: The sample of a frame, counted from its start, that its values stand for.
        lo: The first sample, a multiple of the block length, counted from the start of frame 0.
        hi: One past the last sample, likewise.

    Returns:
        Autocorrelations (B, T, p + 1) with T = (hi − lo) / block_length, for the middle of each
        block; beyond the outer frames they stay constant.
    """
    starts = torch.arange(lo, hi, block_length, device=r.device, dtype=torch.float64)
    position = ((starts + (block_length / 2 - centre)) / hop_length).clamp(0, r.shape[1] - 1)
    before = position.long()
    after = (before + 1).clamp(max=r.shape[1] - 1)
    weight = (position - before).to(r.dtype)[:, None]
    return torch.lerp(r[:, before], r[:, after], weight)


def _toeplitz(a: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the matrices (B, T, L, L) and (B, T, L, p) that map a block, and what came before it.

    Row n of both together holds the coefficients of the sum x[n] + Σ a_k x[n − k].
    """
    order = a.shape[-1]
    taps = F.pad(a.flip(-1), (0, 1), value=1.0)  # (B, T, p + 1)
    rows = F.pad(taps.unsqueeze(-2).expand(*taps.shape[:-1], length, order + 1), (0, length))
    # A row that is one longer than the matrix is wide slips one to the right from row to row.
    slipped = rows.flatten(-2)[..., : length * (order + length)]
    both = slipped.unflatten(-1, (length, order + length))
    return both[..., order:], both[..., :order]
