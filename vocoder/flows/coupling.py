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
        """Map (B, C/2, H, W) to parameters (B, n_params, C/2, H, W)."""


class Coupling(Bijection[[CouplingEstimator]]):
    """Transform the second half of the channels given the first.

    To transform the first half given the second and then swap them (mAR-SCF) is the same as to
    swap them before this coupling; a 1 × 1 convolution in front of it does that at no cost by
    `permutation.roll(C // 2)`.

    Args:
        transform: the elementwise map.
    """

    def __init__(self, transform: Elementwise) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Map x (B, C, H, W) to z; return z and its log-determinant (B,)."""
        x1, x2 = x.chunk(2, dim=1)
        z2, log_derivative = self.transform.forward(x2, estimator(x1).to(x2.dtype))
        return torch.cat([x1, z2], dim=1), log_derivative.flatten(1).sum(dim=1)

    def inverse(self, z: Tensor, estimator: CouplingEstimator) -> Tensor:
        """Map z to x; the half that conditions is the same on both sides."""
        z1, z2 = z.chunk(2, dim=1)
        x2 = self.transform.inverse(z2, estimator(z1).to(z2.dtype))
        return torch.cat([z1, x2], dim=1)
