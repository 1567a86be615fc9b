"""Gated convolutions and attention: the estimator of mixture-of-logistics couplings.

Source: Flow++ (ICML 2019), §3.3 and its PyTorch ports; visinf/mar-scf for the details.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vocoder.errors import VocoderError

N_HEADS = 4  # of the attention


class GatedNet2d(nn.Module):
    """Blocks of gated convolution and attention between two 3 × 3 convolutions.

    Every convolution and projection is weight-normed.

    Args:
        in_channels: c, of the half that conditions and of the one that is transformed.
        channels: hidden channels C, a multiple of 4.
        n_blocks: Number of blocks.
        n_params: parameters for each element of the half that is transformed, a log-scale first.
        dropout: Dropout in every block, in training only.
        parity: start the output like any convolution, and store a direction beside each rescaling
            as the published code does; otherwise the output starts at zero.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        n_blocks: int,
        n_params: int,
        dropout: float,
        parity: bool,
    ) -> None:
        super().__init__()
        if channels % N_HEADS:
            raise VocoderError(f"channels {channels}: must be a multiple of {N_HEADS} (attention)")
        self.n_params = n_params
        self.front = _conv(in_channels, channels, 3)
        self.blocks = nn.ModuleList(GatedBlock(channels, dropout) for _ in range(n_blocks))
        self.head = _conv(channels, n_params * in_channels, 3)
        self.rescale = Rescale(in_channels, parity)
        if not parity:
            nn.init.zeros_(self.head.parametrizations.weight.original0)
            nn.init.zeros_(self.head.bias)

    def forward(self, half: Tensor) -> Tensor:
        """Map (B, c, H, W) to parameters (B, n_params, c, H, W), any H and W."""
        h = self.front(half)
        for block in self.blocks:
            h = block(h)
        params = self.head(h).unflatten(1, (self.n_params, -1))
        log_scale, rest = params.split([1, self.n_params - 1], dim=1)
        return torch.cat([self.rescale(log_scale.tanh()), rest], dim=1)


class Rescale(nn.Module):
    """A learned factor for each channel.

    Args:
        channels: Number of channels c.
        parity: weight-normed, as published: of the direction of one number only the sign is left,
            and it has no gradient.
    """

    def __init__(self, channels: int, parity: bool) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(channels))
        self.direction = nn.Parameter(torch.ones(channels)) if parity else None

    @property
    def n_dead_parameters(self) -> int:
        """The directions."""
        return 0 if self.direction is None else self.direction.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply x (..., c, H, W)."""
        factor = self.factor if self.direction is None else self.factor * self.direction.sign()
        return x * factor.view(-1, 1, 1)


class GatedBlock(nn.Module):
    """Gated convolution, then gated attention, each with a residual and a layer norm.

    Args:
        channels: Number of channels C.
        dropout: Dropout of whole channels in the convolution, of single weights in the attention.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.conv = _conv(2 * channels, channels, 3)
        self.drop = nn.Dropout2d(dropout)
        self.conv_gate = _conv(2 * channels, 2 * channels, 1)
        self.conv_norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, dropout)
        self.attention_gate = weight_norm(nn.Linear(channels, 2 * channels))
        self.attention_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        h = self.conv_gate(self.drop(_concat_elu(self.conv(_concat_elu(x)))))
        x = (x + F.glu(h, dim=1)).permute(0, 2, 3, 1)  # (B, H, W, C)
        x = self.conv_norm(x)
        rows = x.flatten(1, 2)  # (B, HW, C)
        rows = rows + F.glu(self.attention_gate(self.attention(rows)), dim=-1)
        return self.attention_norm(rows).view_as(x).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Every position attends to every position.

    Args:
        channels: Number of channels C.
        dropout: Dropout of the attention weights.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.project = weight_norm(nn.Linear(channels, 3 * channels, bias=False))  # key value query

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, N, C) to the same shape."""
        projected = self.project(rows + position_code(rows))
        heads = projected.unflatten(-1, (3, N_HEADS, -1)).permute(2, 0, 3, 1, 4)
        key, value, query = heads  # each (B, heads, N, C / heads)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


def position_code(rows: Tensor) -> Tensor:
    """Return sines and cosines (N, C) of the position along rows (B, N, C).

    The wavelengths grow from 2π to 20000π. Source: Attention is all you need (NeurIPS 2017), §3.5.
    """
    n_positions, channels = rows.shape[-2:]
    n_waves = channels // 2
    # Computed in double precision: the angles reach N radians.
    wave = torch.arange(n_waves, dtype=torch.float64, device=rows.device)
    position = torch.arange(n_positions, dtype=torch.float64, device=rows.device)
    frequency = (-math.log(10000) / (n_waves - 1) * wave).exp()
    angle = position[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(rows.dtype)


def _concat_elu(x: Tensor) -> Tensor:
    """Map (B, C, H, W) to (B, 2C, H, W)."""
    return F.elu(torch.cat([x, -x], dim=1))


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> Any:
    return weight_norm(nn.Conv2d(in_channels, out_channels, kernel_size, padding="same"))
