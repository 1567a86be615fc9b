"""A flow step that whitens sound by linear prediction, with filters that change over time.

The filters come from autocorrelations, one set a frame, which the caller knows without the sound:
from its mel. Each filter is monic and causal, so that the step is an exact bijection with a simple
Jacobian. It runs as a normalised lattice (Gray and Markel, A normalized digital filter structure,
1975), whose stages are rotations: however wildly the filters change, the state of the inverse never
holds more energy than the excitation brought in, so that no sequence of filters can make it burst.
The published idea of shaping the noise by the mel (PriorGrad, ICLR 2022; SpecGrad, Interspeech
2022) becomes exact for a flow in this way.
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
        reflections: The reflection coefficients k_1 … k_p of each block, (B, T, p), within ±1.
        deviations: The deviation of the sound at each sample, (B, N) with N = T · L.
    """

    reflections: Tensor
    deviations: Tensor

    @property
    def block_length(self) -> int:
        """Samples L of a block."""
        return self.deviations.shape[1] // self.reflections.shape[1]

    @property
    def gains(self) -> Tensor:
        """Return the deviation g of what the prediction leaves of each sample, (B, N)."""
        left = _cosines(self.reflections).prod(dim=-1)
        return self.deviations * left.repeat_interleave(self.block_length, dim=1)


class LinearPrediction(Bijection[[Filters, Tensor | None]]):
    """The excitation of sound: z[n] = (x[n] less what is predicted from the past) / g[n].

    Stage m of the lattice, from m = 1 to p, with k = k_m, c = √(1 − k²), and b delayed by a sample:

        f_m[n] = (f_{m−1}[n] + k b_{m−1}[n−1]) / c
        b_m[n] = (k f_{m−1}[n] + b_{m−1}[n−1]) / c

    It starts with f_0 = b_0 = x / deviation, and z = f_p. The state after sample n is b_0[n] …
    b_{p−1}[n]; before the first sample it is silence, if nothing else is given.
    """

    def forward(
        self, x: Tensor, filters: Filters, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map sound to its excitation.

        Args:
            x: Sound (B, T · L).
            filters: One set of coefficients for each block.
            state: The state (B, p) before x; None is silence.

        Returns:
            The excitation z (B, T · L) and the log-determinant (B,), −Σ ln g.
        """
        reflections, deviations = filters
        if state is None:
            state = x.new_zeros(len(x), reflections.shape[-1])
        forwards = backwards = x / deviations
        for stage, past in zip(reflections.unbind(-1), state.unbind(-1), strict=True):
            k = stage.repeat_interleave(filters.block_length, dim=1)
            c = _cosines(k)
            delayed = torch.cat([past.unsqueeze(1), backwards[:, :-1]], dim=1)
            forwards, backwards = (forwards + k * delayed) / c, (k * forwards + delayed) / c
        return forwards, -filters.gains.log().sum(dim=1)

    def inverse(self, z: Tensor, filters: Filters, state: Tensor | None = None) -> Tensor:
        """Map an excitation to sound; the arguments are those of `forward`."""
        if state is None:
            state = z.new_zeros(len(z), filters.reflections.shape[-1])
        return synthesise(z, filters, state)[0]


def synthesise(z: Tensor, filters: Filters, state: Tensor) -> tuple[Tensor, Tensor]:
    """Map an excitation to sound, and tell the state after it.

    Within a block the lattice is a linear system s' = A s + B z, f_0 = C s + D z. The response of
    all blocks to their state and excitation is found at once; only the state goes from block to
    block.

    Args:
        z: The excitation (B, T · L).
        filters: One set of coefficients for each block.
        state: The state (B, p) before it.

    Returns:
        The sound (B, T · L), and the state (B, p) after it.
    """
    reflections, deviations = filters
    length = filters.block_length
    blocks = z.unflatten(1, (-1, length)).unsqueeze(-1)
    if not reflections.shape[-1]:
        return z * deviations, state
    a, b, c, d = _state_space(reflections)
    seen, driven, power = c, b, a
    while seen.shape[-2] < length:
        seen = torch.cat([seen, seen @ power], dim=-2)  # C, C A, C A² …
        driven = torch.cat([power @ driven, driven], dim=-1)  # … A² B, A B, B
        power = power @ power
    seen, driven = seen[..., :length, :], driven[..., -length:]
    impulse = torch.cat([d.unsqueeze(-1), (seen[..., :-1, :] @ b).squeeze(-1)], dim=-1)
    through = _lower_toeplitz(impulse) @ blocks
    step, brought = torch.linalg.matrix_power(a, length), driven @ blocks
    states = []
    current = state.unsqueeze(-1)
    for block in range(blocks.shape[1]):
        states.append(current)
        current = torch.baddbmm(brought[:, block], step[:, block], current)
    sound = through + seen @ torch.stack(states, dim=1)
    return sound.flatten(1) * deviations, current.squeeze(-1)


def reflection_coefficients(r: Tensor) -> Tensor:
    """Solve the normal equations of linear prediction by the recursion of Schur (1917).

    It never forms the predictors, as Levinson's does, and a step is two sums of vectors.

    Args:
        r: Autocorrelations (..., p + 1) at the lags 0 to p, positive definite.

    Returns:
        The reflection coefficients k_1 … k_p (..., p) of the predictors.
    """
    lags = r.movedim(-1, 0).contiguous()  # the sets side by side in memory
    forwards, backwards = lags[1:], lags[:-1]
    reflections = []
    while len(forwards):
        # Rounding alone could leave the unit circle, beyond which there is no inverse.
        k = (-forwards[0] / backwards[0]).clamp(-0.99999, 0.99999)
        reflections.append(k)
        forwards, backwards = (
            torch.addcmul(forwards, k, backwards)[1:],
            torch.addcmul(backwards, k, forwards)[:-1],
        )
    return torch.stack(reflections, dim=-1) if reflections else r[..., :0]


def interpolate_frames(
    r: Tensor, hop_length: int, block_length: int, centre: int, lo: int, hi: int
) -> Tensor:
    """Interpolate autocorrelations, or other values, linearly from frames to blocks.

    A mixture of autocorrelations stays positive definite, which one of coefficients would not.

    Args:
        r: Autocorrelations (B, F, p + 1), one set a frame.
        hop_length: Samples per frame.
        block_length: Samples of a block; 1 for values at each sample.
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


def _cosines(k: Tensor) -> Tensor:
    """Return √(1 − k²), without the rounding of k² near ±1."""
    return ((1 - k) * (1 + k)).sqrt()


def _state_space(reflections: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return A (…, p, p), B (…, p, 1), C (…, 1, p) and D (…) of s' = A s + B z, f_0 = C s + D z.

    Unrolled from stage p down, with the products Q_m = c_1 … c_m,

        f_m = Q_p / Q_m z − Σ_{i>m} Q_{i−1} / Q_m k_i s_{i−1},

    and s'_0 = f_0, s'_m = k_m f_m + c_m s_{m−1}.
    """
    c = _cosines(reflections)
    products = F.pad(c.cumprod(dim=-1), (1, 0), value=1.0)
    q, last = products[..., :-1], products[..., -1:]
    f = torch.triu(-(q * reflections).unsqueeze(-2) / q.unsqueeze(-1))
    before = F.pad(reflections[..., :-1], (1, 0), value=1.0)  # 1, k_1 … k_{p−1}
    a = before.unsqueeze(-1) * f + torch.diag_embed(c[..., :-1], offset=-1)
    b = before * last / q
    return a, b.unsqueeze(-1), f[..., :1, :], last.squeeze(-1)


def _lower_toeplitz(impulse: Tensor) -> Tensor:
    """Return the matrices (…, L, L) that convolve a block with an impulse response (…, L)."""
    length = impulse.shape[-1]
    lags = torch.arange(length, device=impulse.device)
    return torch.tril(impulse[..., (lags[:, None] - lags).clamp_min(0)])
