"""A prior that takes the channels of a latent one after the other; mAR-SCF's.

What a prior is: `flows/multiscale.py`. Source: Normalizing flows with multi-scale autoregressive
priors (CVPR 2020), §3; visinf/mar-scf for the details.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.flows.base import Bijection, full_precision
from vocoder.flows.multiscale import LevelShape, Prior
from vocoder.nets.channel_steps import channel_steps
from vocoder.nets.convlstm import ConvLstm
from vocoder.nets.priors import bend

N_GIVEN_HIDDEN, N_GIVEN_MAPS = 32, 4  # channels of the embedding of what is given
LOG_STD_BOUND = 7.0


class ChannelPrior(Bijection[[Tensor | None]]):
    """eps_j = (z_j − mean_j) · exp(−log_std_j), both moments of channel j from z_0 … z_{j−1}.

    A convolutional LSTM reads the channels in turn, each a map of H × W beside an embedding of what
    stays in the flow. All channels share its weights, so that their number is free, as is the size
    of the maps. Given z all steps are computed at once; given eps, one after the other.

    Args:
        n_given: channels that go on; 0 at the top.
        n_factored: channels that leave.
        channels: hidden channels of the LSTM.
        n_layers: Number of layers of the LSTM.
        kernel_size: Kernel size of the LSTM and of the convolution in front of it.
        dilation: Dilation of the LSTM.
        parity: Whether all is as published, see `ConvLstm`; the moments then start anywhere,
            log_std is unbounded, and the top stores an embedding of nothing. Otherwise eps = z at
            first, and log_std is bent smoothly to ±7.
    """

    def __init__(
        self,
        n_given: int,
        n_factored: int,
        *,
        channels: int,
        n_layers: int,
        kernel_size: int,
        dilation: int,
        parity: bool,
    ) -> None:
        super().__init__()
        self.parity = parity
        n_maps = N_GIVEN_MAPS if n_given else 0
        self.embed: nn.Module | None = None
        if n_given:
            self.embed = _embedding(n_given)
        elif parity:
            self.embed = Unused(_embedding(n_factored))
        self.front = nn.Conv2d(1 + n_maps, channels, kernel_size, padding="same")
        self.lstm = ConvLstm(channels, n_layers, kernel_size, dilation, parity)
        self.head = nn.Conv2d(channels, 2, 3, padding="same")
        if not parity:
            for parameter in self.head.parameters():
                nn.init.zeros_(parameter)

    def forward(self, z: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return eps (B, C2, H, W) and the log-determinant (B,)."""
        with full_precision(z.device):
            mean, log_std = self.moments(z, given)
            return (z - mean) * (-log_std).exp(), -log_std.flatten(1).sum(dim=1)

    def moments(self, z: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log_std (B, C2, H, W) of every channel, from those before it."""
        B, C2, H, W = z.shape
        before = F.pad(z.transpose(0, 1)[:-1], (0, 0, 0, 0, 0, 0, 1, 0))  # (C2, B, H, W)
        front = self.front.weight[:, :1]
        read = F.conv2d(before.reshape(C2 * B, 1, H, W), front, padding="same")
        states = self.lstm(read.unflatten(0, (C2, B)) + self._constant(given))
        moments = self.split_moments(self.head(states.flatten(0, 1)))
        mean, log_std = (moment.view(C2, B, H, W).transpose(0, 1) for moment in moments)
        return mean, log_std

    def inverse(self, eps: Tensor, given: Tensor | None) -> Tensor:
        """Return z, one channel after the other."""
        with full_precision(eps.device):
            constant = self._constant(given).expand(len(eps), -1, *eps.shape[2:])
            steps = channel_steps(self.front.weight[:, :1], self.lstm, self.head, constant)
            z: list[Tensor] = []
            for noise in eps.unbind(1):
                mean, log_std = self.split_moments(steps.step(z[-1] if z else None))
                z.append(mean + noise * log_std.exp())
            return torch.stack(z, dim=1)

    def _constant(self, given: Tensor | None) -> Tensor:
        """Return the part of that input that is the same at every step (B or 1, C, H or 1, W or 1).

        The convolution in front is linear in what it reads, so what is given is convolved once.
        """
        if given is None:
            assert self.front.bias is not None
            constant = self.front.bias.view(1, -1, 1, 1)
            return constant if self.embed is None else constant + self.embed()
        assert self.embed is not None
        return F.conv2d(
            self.embed(given), self.front.weight[:, 1:], self.front.bias, padding="same"
        )

    def split_moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log_std (B, H, W) for the head's output (B, 2, H, W)."""
        mean, log_std = raw.unbind(1)
        if not self.parity:
            log_std = bend(log_std, LOG_STD_BOUND)
        return mean, log_std


class Unused(nn.Module):
    """Parameters that the published code stores and nothing depends on.

    They add an exact zero, so that they have a gradient, as DDP asks for.
    """

    def __init__(self, stored: nn.Module) -> None:
        super().__init__()
        self.stored = stored

    @property
    def n_dead_parameters(self) -> int:
        """All of them."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self) -> Tensor:
        """Return zero."""
        return torch.stack([parameter.flatten()[:0].sum() for parameter in self.parameters()]).sum()


def _embedding(in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, N_GIVEN_HIDDEN, 5, padding="same"),
        nn.ReLU(),
        nn.Conv2d(N_GIVEN_HIDDEN, N_GIVEN_MAPS, 5, padding="same"),
    )


def channel_priors(
    shapes: Sequence[LevelShape],
    *,
    channels: int = 32,
    n_layers: int = 3,
    kernel_sizes: Sequence[int] = (5, 5, 3),
    dilations: Sequence[int] = (2, 1),
    parity: bool = False,
) -> list[Prior]:
    """Return the autoregressive prior of each level; the defaults are the published sizes.

    Args:
        shapes: Shapes of the levels.
        channels: Number of channels; see `ChannelPrior`.
        n_layers: Number of layers; see `ChannelPrior`.
        kernel_sizes: Kernel sizes of the first, second, ... level; the last one serves all that
            follow.
        dilations: Dilations of the first, second, ... level; the last one serves all that follow.
        parity: Whether all is as published; see `ChannelPrior`.
    """
    return [
        ChannelPrior(
            shape.n_given,
            shape.n_factored,
            channels=channels,
            n_layers=n_layers,
            kernel_size=kernel_sizes[min(i, len(kernel_sizes) - 1)],
            dilation=dilations[min(i, len(dilations) - 1)],
            parity=parity,
        )
        for i, shape in enumerate(shapes)
    ]
