"""What every flow step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """An invertible map of x to z.

    What else it is given is the subclass's to say: a conditioning, or the estimator that computes
    its parameters. The estimator is an argument and not a part, so that several steps can share one
    (NanoFlow, NeurIPS 2020, §3) and each still reads as a whole.
    """

    @abstractmethod
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Map data to latent; return (z, logdet), logdet (B,) = log|det dz/dx| in nats."""

    @abstractmethod
    def inverse(self, z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map latent to data: the exact inverse of `forward`."""


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context in which autocast leaves what is done on the device of `x` alone."""
    return torch.autocast(x.device.type, enabled=False)
