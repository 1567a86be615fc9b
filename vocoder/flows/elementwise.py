"""Elementwise bijections: pure functions of a tensor and its parameters, channel axis 1.

Each comes as a small object with `n_params`, the channels that its parameters take, and with
`forward(x, params) -> (z, log|dz/dx|)` and `inverse(z, params) -> x` side by side. Shapes: x and z
(B, ...), params (B, n_params, ...).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Elementwise(Protocol):
    """What a flow step asks of its elementwise transform."""

    @property
    def n_params(self) -> int:
        """Number of parameter channels per element."""

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log|dz/dx|, both of x's shape."""

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """Return x."""


@dataclass(frozen=True)
class Affine:
    """z = x · exp(log_s) + t, with params = (log_s, t); WaveFlow (ICML 2020), eq. 6."""

    n_params: int = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log_s."""
        log_s, t = params.unbind(1)
        return x * log_s.exp() + t, log_s

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """Return x = (z − t) · exp(−log_s)."""
        log_s, t = params.unbind(1)
        return (z - t) * (-log_s).exp()


@dataclass(frozen=True)
class Standardise:
    """z = (x − mean) · exp(−log_std), with params = (log_std, mean); FloWaveNet (ICML 2019), §3."""

    n_params: int = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and −log_std."""
        log_std, mean = params.unbind(1)
        return (x - mean) * (-log_std).exp(), -log_std

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """Return x = z · exp(log_std) + mean."""
        log_std, mean = params.unbind(1)
        return z * log_std.exp() + mean


@dataclass(frozen=True)
class SigmoidAffine:
    """z = (x + shift) · scale, scale = floor + (1 − floor) · σ(raw + 2), params = (shift, raw).

    As in Glow's published code; the scale is at most 1. With a floor of zero the inverse can divide
    by numbers near zero.
    """

    floor: float = 0.0
    shift_first: bool = True  # otherwise z = x · scale + shift, as in mAR-SCF
    n_params: int = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and ln(scale)."""
        shift, log_scale = self._read(params)
        scale = log_scale.exp()
        return ((x + shift) * scale if self.shift_first else x * scale + shift), log_scale

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """Return x."""
        shift, log_scale = self._read(params)
        scale = (-log_scale).exp()
        return z * scale - shift if self.shift_first else (z - shift) * scale

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = params.unbind(1)
        log_sigmoid = F.logsigmoid(raw + 2)
        if not self.floor:
            return shift, log_sigmoid
        rest = log_sigmoid + math.log1p(-self.floor)
        return shift, torch.logaddexp(rest, rest.new_tensor(math.log(self.floor)))


@dataclass(frozen=True)
class Shift:
    """z = x + t, params = (t,); NICE (2014), §3.2."""

    n_params: int = 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and zeros."""
        return x + params[:, 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """Return x = z − t."""
        return z - params[:, 0]


@dataclass(frozen=True)
class AffineSpline:
    """An affine map followed by a monotone rational-quadratic spline with identity tails.

    Neural Spline Flows (NeurIPS 2019), eqs. 4-8. The affine part puts the data on the spline's
    scale, whatever its loudness; with all spline parameters zero the spline is the identity.

    params = (log_s, t, n_bins widths, n_bins heights, n_bins − 1 slopes), all unconstrained.
    """

    n_bins: int = 8
    bound: float = (
        4.0  # the spline acts on [−bound, bound]; standard normal latents rarely leave it
    )
    min_size: float = 1e-3  # least width and height of a bin, as a share of the whole
    min_slope: float = 1e-3

    @property
    def n_params(self) -> int:
        """Two of the affine part, 3 · n_bins − 1 of the spline."""
        return 2 + 3 * self.n_bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log|dz/dx|."""
        y, log_s = Affine().forward(x, params[:, :2])
        inside = y.abs() < self.bound
        knots = self._knots(params[:, 2:])
        # Outside, evaluate at 0 and discard, so that no gradient there can be NaN.
        y_in = torch.where(inside, y, torch.zeros_like(y))
        x0, width, y0, height, slope, d0, d1 = self._bin(knots, y_in, by_output=False)
        u = (y_in - x0) / width
        curve = slope + (d0 + d1 - 2 * slope) * u * (1 - u)
        z = y0 + height * (slope * u**2 + d0 * u * (1 - u)) / curve
        derivative = d1 * u**2 + 2 * slope * u * (1 - u) + d0 * (1 - u) ** 2
        log_derivative = 2 * slope.log() + derivative.log() - 2 * curve.log()
        zero = torch.zeros_like(log_derivative)
        return torch.where(inside, z, y), log_s + torch.where(inside, log_derivative, zero)

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """Return x: the root of a quadratic per element, in its cancellation-free form."""
        inside = z.abs() < self.bound
        knots = self._knots(params[:, 2:])
        z_in = torch.where(inside, z, torch.zeros_like(z))
        x0, width, y0, height, slope, d0, d1 = self._bin(knots, z_in, by_output=True)
        rise = z_in - y0
        bend = rise * (d0 + d1 - 2 * slope)
        a = height * (slope - d0) + bend
        b = height * d0 - bend
        c = -slope * rise
        u = 2 * c / (-b - (b**2 - 4 * a * c).clamp(min=0).sqrt())
        y = torch.where(inside, x0 + u * width, z)
        return Affine().inverse(y, params[:, :2])

    def _knots(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return bin edges along x and along y (B, n_bins + 1, ...), and slopes at the edges."""
        widths, heights, slopes = params.split([self.n_bins, self.n_bins, self.n_bins - 1], dim=1)
        # softplus(slope_at_zero) + min_slope = 1: zero parameters give the identity.
        slope_at_zero = torch.tensor(1 - self.min_slope).expm1().log().item()
        inner = self.min_slope + F.softplus(slopes + slope_at_zero)
        one = torch.ones_like(inner[:, :1])
        return self._edges(widths), self._edges(heights), torch.cat([one, inner, one], dim=1)

    def _edges(self, sizes: Tensor) -> Tensor:
        shares = self.min_size + (1 - self.min_size * self.n_bins) * sizes.softmax(dim=1)
        inner = 2 * self.bound * shares.cumsum(dim=1)[:, :-1] - self.bound
        end = torch.full_like(inner[:, :1], self.bound)
        return torch.cat([-end, inner, end], dim=1)

    def _bin(
        self, knots: tuple[Tensor, Tensor, Tensor], value: Tensor, by_output: bool
    ) -> tuple[Tensor, ...]:
        """Return x0, width, y0, height, mean slope and the two edge slopes of `value`'s bin."""
        x_edges, y_edges, slopes = knots
        edges = y_edges if by_output else x_edges
        index = (value.unsqueeze(1) >= edges[:, 1:-1]).sum(dim=1, keepdim=True)

        def at(table: Tensor, shift: int) -> Tensor:
            return table.gather(1, index + shift).squeeze(1)

        x0, y0 = at(x_edges, 0), at(y_edges, 0)
        width, height = at(x_edges, 1) - x0, at(y_edges, 1) - y0
        return x0, width, y0, height, height / width, at(slopes, 0), at(slopes, 1)
