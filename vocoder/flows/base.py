"""What every flow step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """An invertible map of x to z whose parameters an estimator computes.

    The estimator is an argument and not a part, so that several steps can share one
    (NanoFlow, NeurIPS 2020, §3) and each still reads as a whole.
    """

    @abstractmethod
    def forward(self, x: Tensor, cond: Any, estimator: Any) -> tuple[Tensor, Tensor]:
        """Map data to latent; return (z, logdet), logdet (B,) = log|det dz/dx| in nats."""

    @abstractmethod
    def inverse(self, z: Tensor, cond: Any, estimator: Any) -> Tensor:
        """Map latent to data: the exact inverse of `forward`."""
