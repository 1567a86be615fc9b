"""The convolutional estimators of Glow and NanoGlow.

Source: Glow (NeurIPS 2018), §4 and its published code; NanoFlow (NeurIPS 2020), appendix on images,
and L0SG/NanoFlow for the details.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.flows.linear import ActNorm, DataInitialised

# All channels of a position side by side. A CPU trains 1.0 to 1.4 times as many images a second by
# it in float32, and 1.6 to 2.0 times as many in bf16, by the size of a batch; see docs/images.md.
LAYOUT = torch.channels_last


class NormedConv2d(DataInitialised):
    """Convolution to the same size followed by ActNorm, computed as one convolution.

    (w ∗ x + bias) · exp(log_scale) = (w · exp(log_scale)) ∗ x + bias · exp(log_scale), so that the
    backward pass has no tensor of activations to keep for the norm.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding="same", bias=False)
        nn.init.normal_(self.conv.weight, std=0.05)
        self.bias = nn.Parameter(self.conv.weight.new_zeros(out_channels))
        self.log_scale = nn.Parameter(self.conv.weight.new_zeros(out_channels))

    def initialise_from(self, x: Tensor) -> None:
        """Standardise each output channel over batch and positions."""
        std, mean = torch.std_mean(self.conv(x), dim=(0, 2, 3), correction=0)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-(std + 1e-6).log())

    def forward(self, x: Tensor, log_gate: Tensor | None = None) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H, W), times exp(log_gate) (C_out,) if given."""
        log_scale = self.log_scale if log_gate is None else self.log_scale + log_gate
        scale = log_scale.exp()
        weight = (self.conv.weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=LAYOUT)
        return F.conv2d(x, weight, self.bias * scale, padding="same")


class ZeroConv2d(nn.Conv2d):
    """Convolution to the same size that starts at zero, times exp(3 · log_scale)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding="same")
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.log_scale = nn.Parameter(self.bias.new_zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H, W)."""
        return super().forward(x) * (3 * self.log_scale).exp().view(-1, 1, 1)


class ConvNet2d(nn.Module):
    """Normed convolutions, each followed by ReLU.

    Args:
        in_channels: channels of the input.
        channels: hidden channels h.
        kernel_sizes: (3, 1) for Glow's network, six times 3 for NanoFlow's.
    """

    def __init__(self, in_channels: int, channels: int, kernel_sizes: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (in_channels, *[channels] * len(kernel_sizes))
        self.convs = nn.ModuleList(
            NormedConv2d(sizes[i], sizes[i + 1], kernel) for i, kernel in enumerate(kernel_sizes)
        )

    def forward(self, x: Tensor, log_gates: Tensor | None = None) -> Tensor:
        """Map (B, C_in, H, W) to (B, h, H, W).

        Args:
            x: Input of the network.
            log_gates: (layers, h), the logarithm of a factor of each normed convolution, or None.
        """
        x = x.contiguous(memory_format=LAYOUT)
        for i, conv in enumerate(self.convs):
            x = conv(x, None if log_gates is None else log_gates[i]).relu()
        return x


class StepIndicator(nn.Module):
    """What tells a shared network which step of flow it serves: maps beside its input, and gates.

    The maps pass an ActNorm of their own, which sets the size that they start from.

    Args:
        n_maps: Number E of maps.
        height: Height of the maps, and so of all images.
        width: Width of the maps.
        n_layers: layers of the network.
        channels: hidden channels h of the network.
    """

    def __init__(self, n_maps: int, height: int, width: int, n_layers: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(n_maps, height, width))
        self.norm = ActNorm(n_maps)
        self.log_gate = nn.Parameter(torch.zeros(n_layers, channels))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the maps (1, E, H, W) and the gates' logarithms (layers, h)."""
        maps, _ = self.norm(self.embedding.unsqueeze(0))
        return maps, self.log_gate


@dataclass(frozen=True)
class ConvEstimator:
    """A network, a head and a step's own indicator: all that one flow step calls.

    Args:
        net: The network that computes features.
        head: Maps its features to n_params · C/2 channels, the parameters of a channel side by
            side.
        n_params: parameters for each element.
        indicator: Indicator of this step, for a network that several share.
    """

    net: ConvNet2d
    head: ZeroConv2d
    n_params: int
    indicator: StepIndicator | None = None

    def __call__(self, half: Tensor) -> Tensor:
        """Map the half that conditions (B, C/2, H, W) to parameters (B, n_params, C/2, H, W)."""
        log_gates = None
        if self.indicator is not None:
            maps, log_gates = self.indicator()
            half = torch.cat([half, maps.to(half.dtype).expand(len(half), -1, -1, -1)], dim=1)
        return by_parameter(self.head(self.net(half, log_gates)), self.n_params)


def by_parameter(h: Tensor, n_params: int) -> Tensor:
    """Turn channels c · P + p of h (B, C · P, H, W) into (B, P, C, H, W)."""
    return h.unflatten(1, (-1, n_params)).transpose(1, 2)
