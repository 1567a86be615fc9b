"""Half of the channels transformed given the other half.

Source: Real NVP (ICLR 2017), §3.2 and §3.4; Glow (NeurIPS 2018), §3.3.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vocoder.flows.base import Bijection
from vocoder.flows.elementwise import Elementwise


class CouplingEstimator(Protocol):
    """A network from one half of the channels to the parameters of the other half."""

    def __call__(self, half: Tensor) -> Tensor:
        """Map (B, C/2, ...) to parameters (B, n_params, C/2, ...)."""


class Coupling(Bijection[[CouplingEstimator]]):
    """Transform the second half of the channels given the first.

    Where the other half is to change, roll the channels by C/2 before, as a 1 × 1 convolution in
    front can at no cost; mAR-SCF does. `first` leaves every channel in its place instead.

    Args:
        transform: the elementwise map.
        first: transform the first half given the second.
    """

    def __init__(self, transform: Elementwise, first: bool = False) -> None:
        super().__init__()
        self.transform = transform
        self.first = first

    def forward(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Map x (B, C, ...) to z; return z and its log-determinant (B,)."""
        z, log_derivative = self.elementwise(x, estimator)
        return z, log_derivative.flatten(1).sum(dim=1)

    def elementwise(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Like `forward`, with log|dz/dx| of every element that changes, (B, C/2, ...)."""
        given, x2 = self._halves(x)
        z2, log_derivative = self.transform.forward(x2, estimator(given).to(x2.dtype))
        return self._join(given, z2), log_derivative

    def inverse(self, z: Tensor, estimator: CouplingEstimator) -> Tensor:
        """Map z to x; the half that conditions is the same on both sides."""
        given, z2 = self._halves(z)
        return self._join(given, self.transform.inverse(z2, estimator(given).to(z2.dtype)))

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the half that conditions and the half that changes."""
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.first else (first, second)

    def _join(self, given: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, given] if self.first else [given, changed], dim=1)
