"""Gaussian priors of what leaves an image flow; `flows/multiscale.py` says what a prior is.

Source: Glow (NeurIPS 2018) and its published code.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from vocoder.flows.base import Bijection, full_precision
from vocoder.nets.convnet2d import ZeroConv2d, by_parameter

LOG_STD_BOUND = 5.0


def bend(x: Tensor, bound: float) -> Tensor:
    """Return x bent smoothly to ±bound: nearly x where that is small."""
    return bound * (x / bound).tanh()


class GaussianPrior(Bijection[[Tensor | None]]):
    """eps = (z − mean) · exp(−log_std), where mean and log_std depend on what stays in the flow."""

    @abstractmethod
    def moments(self, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log_std, each (B or 1, C2, H or 1, W or 1)."""

    def forward(self, z: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return eps (B, C2, H, W) and the log-determinant (B,)."""
        with full_precision(z.device):
            mean, log_std = self.moments(given)
            return (z - mean) * (-log_std).exp(), -log_std.expand_as(z).flatten(1).sum(dim=1)

    def inverse(self, eps: Tensor, given: Tensor | None) -> Tensor:
        """Return z = mean + eps · exp(log_std)."""
        with full_precision(eps.device):
            mean, log_std = self.moments(given)
            return mean + eps * log_std.exp()


class SplitPrior(GaussianPrior):
    """Mean and log_std of each element by one convolution of what goes on to the next level.

    Args:
        n_given: channels that go on.
        n_factored: channels that leave.
        parity: Whether log_std is unbounded, as published. Otherwise it is bent smoothly to ±5:
            where a strange image drives it to -7, a single element costs it thousands of bits.
    """

    def __init__(self, n_given: int, n_factored: int, parity: bool) -> None:
        super().__init__()
        self.parity = parity
        self.head = ZeroConv2d(n_given, 2 * n_factored, 3)

    def moments(self, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log_std given z1 (B, n_given, H, W)."""
        assert given is not None
        mean, log_std = by_parameter(self.head(given), 2).unbind(1)
        if not self.parity:
            log_std = bend(log_std, LOG_STD_BOUND)
        return mean, log_std


class TopPrior(GaussianPrior):
    """A learned mean and log_std for each channel.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_std = nn.Parameter(torch.zeros(channels))

    def moments(self, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log_std (1, C, 1, 1); nothing is given at the top."""
        return self.mean.view(1, -1, 1, 1), self.log_std.view(1, -1, 1, 1)


class PublishedTopPrior(GaussianPrior):
    """The same as the published code has it: a convolution of zeros, whose weights do nothing.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = ZeroConv2d(2 * channels, 2 * channels, 3)

    @property
    def n_dead_parameters(self) -> int:
        """The convolution's weights: their input is zero."""
        return self.head.weight.numel()

    def moments(self, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log_std (1, C, 1, 1); nothing is given at the top."""
        # Not the bias alone: the weights must have a gradient, be it zero, for DDP.
        zeros = self.head.weight.new_zeros(1, self.head.in_channels, 1, 1)
        mean, log_std = self.head(zeros).chunk(2, dim=1)
        return mean, log_std
