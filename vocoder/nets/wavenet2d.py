"""The density estimator of WaveFlow and NanoFlow: a WaveNet over the rows of a folded waveform.

Source: WaveFlow (ICML 2020), §3.2; L0SG/NanoFlow and L0SG/WaveFlow for the details.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Residual = Literal["plain", "scaled", "gated"]  # h + r, (h + r) · √½, h + gate · r


@dataclass(frozen=True)
class FlowParameters:
    """What one flow adds to a network that others may share.

    Args:
        shift: (L, 2C), added to the pre-activation of each layer (the flow embedding), or None.
        gate: (L, C), factor of each layer's residual for `residual="gated"`, or None.
        mask: (B, 1, 1, W), false beyond the end of each item of a padded batch, or None.
    """

    shift: Tensor | None = None
    gate: Tensor | None = None
    mask: Tensor | None = None


class WaveNet2d(nn.Module):
    """Gated residual layers, causal along rows and symmetric along columns.

    Args:
        channels: residual channels C.
        n_mels: conditioning bands M.
        n_layers: layers L; layer l has the width dilation 2^l.
        n_layers_per_cycle: layer l has the height dilation 2^(l mod n_layers_per_cycle).
        residual: how a layer's output joins its input.
    """

    def __init__(
        self,
        channels: int,
        n_mels: int,
        n_layers: int,
        n_layers_per_cycle: int,
        residual: Residual,
    ) -> None:
        super().__init__()
        self.front = weight_norm(nn.Conv2d(1, channels, 1))
        self.layers = nn.ModuleList(
            GatedLayer(channels, n_mels, (2 ** (i % n_layers_per_cycle), 2**i), residual)
            for i in range(n_layers)
        )

    def project(self, cond: Tensor) -> Tensor:
        """Project the conditioning (B, M, H, W) for all layers at once: (B, L · 2C, H, W)."""
        projections = [layer.cond for layer in self._layers()]
        weight = torch.cat([projection.weight for projection in projections])
        bias = torch.cat([projection.bias for projection in projections])
        return F.conv2d(cond, weight, bias)

    def _layers(self) -> list[GatedLayer]:
        return cast("list[GatedLayer]", list(self.layers))

    def forward(
        self,
        rows: Tensor,
        cond: Tensor,
        flow: FlowParameters,
        convolve: Callable[[int, GatedLayer, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return the sum of the skips (B, C, H, W) for input rows (B, H, W).

        Args:
            rows: output row r sees the rows ≤ r of these.
            cond: `project`ed conditioning (B, L · 2C, H, W).
            flow: the flow's own parameters.
            convolve: gets (index, layer, h, bias) and returns the layer's dilated convolution;
                that is where a whole batch of rows and a queue of single rows differ.
        """
        h = self.front(rows.unsqueeze(1))
        skips = torch.zeros_like(h)
        conds = cond.chunk(len(self.layers), dim=1)
        for i, (layer, layer_cond) in enumerate(zip(self._layers(), conds, strict=True)):
            if flow.mask is not None:
                h = h * flow.mask
            bias = layer.conv.bias if flow.shift is None else layer.conv.bias + flow.shift[i]
            a = convolve(i, layer, h, bias) + layer_cond
            gate = None if flow.gate is None else flow.gate[i]
            h, skip = layer(h, a, gate, last=i == len(self.layers) - 1)
            skips = skips + skip
        return skips


class GatedLayer(nn.Module):
    """Dilated 3 × 3 convolution, conditioning, tanh · sigmoid, and 1 × 1 residual and skip.

    Args:
        channels: residual channels C.
        n_mels: conditioning bands M.
        dilation: along rows and along columns.
        residual: how the output joins the input.
    """

    def __init__(
        self, channels: int, n_mels: int, dilation: tuple[int, int], residual: Residual
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.residual = residual
        self.conv: Any = weight_norm(nn.Conv2d(channels, 2 * channels, 3))
        self.cond: Any = weight_norm(nn.Conv2d(n_mels, 2 * channels, 1))
        self.res_skip: Any = weight_norm(nn.Conv2d(channels, 2 * channels, 1))

    def convolve(self, rows: Tensor, bias: Tensor, row_dilation: int) -> Tensor:
        """Convolve rows (B, C, H + 2 · row_dilation, W) to (B, 2C, H, W)."""
        d_w = self.dilation[1]
        dilation, padding = (row_dilation, d_w), (0, d_w)
        return F.conv2d(rows, self.conv.weight, bias, padding=padding, dilation=dilation)

    def forward(
        self, h: Tensor, a: Tensor, gate: Tensor | None, *, last: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the next layer's h and the skip, both (B, C, H, W).

        Args:
            h: the layer's input (B, C, H, W).
            a: convolution plus conditioning (B, 2C, H, W).
            gate: (C,) or None.
            last: nobody reads the last layer's h; it is then returned as it came.
        """
        C = h.shape[1]
        y = a[:, :C].tanh() * a[:, C:].sigmoid()
        if last:  # the residual half is in the checkpoints, but nothing reads it
            return h, F.conv2d(y, self.res_skip.weight[C:], self.res_skip.bias[C:])
        r, skip = self.res_skip(y).chunk(2, dim=1)
        if self.residual == "gated":
            assert gate is not None
            return torch.addcmul(h, gate.view(-1, 1, 1).to(r.dtype), r), skip
        if self.residual == "scaled":
            return (h + r) * math.sqrt(0.5), skip
        return h + r, skip


class Head(nn.Module):
    """1 × 1 projection of the skips to the parameters of the elementwise transform.

    Args:
        channels: C.
        n_params: output channels.
        scaled: multiply each output by exp(3 · scale), a learned factor per channel, and start
            with small random weights (the NanoFlow repository); otherwise start from zero.
    """

    def __init__(self, channels: int, n_params: int, scaled: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, n_params, 1)
        bound = 1e-3 if scaled else 0.0
        for parameter in self.conv.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        self.scale = nn.Parameter(torch.zeros(1, n_params, 1, 1)) if scaled else None

    def forward(self, skips: Tensor) -> Tensor:
        """Map skips (B, C, H, W) to parameters (B, n_params, H, W)."""
        params: Tensor = self.conv(skips)
        return params if self.scale is None else params * (3 * self.scale).exp()


@dataclass(frozen=True)
class Estimator:
    """A network, a head and a flow's own parameters: all that one flow step calls."""

    net: WaveNet2d
    head: Head
    flow: FlowParameters

    def __call__(self, rows: Tensor, cond: Tensor) -> Tensor:
        """Map input rows (B, H, W) and projected conditioning to parameters (B, P, H, W)."""

        def convolve(_: int, layer: GatedLayer, h: Tensor, bias: Tensor) -> Tensor:
            d_h = layer.dilation[0]
            return layer.convolve(F.pad(h, (0, 0, 2 * d_h, 0)), bias, d_h)

        return self.head(self.net(rows, cond, self.flow, convolve))

    def queue(self, cond: Tensor) -> WaveNetQueue:
        """Return the same function, fed one row at a time."""
        return WaveNetQueue(self, cond)


class WaveNetQueue:
    """`Estimator` one row at a time: keeps the past rows that each layer's convolution reaches.

    The rows are the state; the network is only read. Exact for every height dilation.
    """

    def __init__(self, estimator: Estimator, cond: Tensor) -> None:
        self.estimator = estimator
        self.rows_of_cond = iter(cond.split(1, dim=-2))
        self.past: list[list[Tensor]] = [[] for _ in estimator.net.layers]

    def step(self, row: Tensor) -> Tensor:
        """Take input row (B, W); return the parameters (B, P, W) of the output row beside it."""
        e = self.estimator
        skips = e.net(row.unsqueeze(1), next(self.rows_of_cond), e.flow, self._convolve)
        return e.head(skips).squeeze(2)

    def _convolve(self, index: int, layer: GatedLayer, h: Tensor, bias: Tensor) -> Tensor:
        past, d_h = self.past[index], layer.dilation[0]
        zero = torch.zeros_like(h)
        rows = [past[-d] if len(past) >= d else zero for d in (2 * d_h, d_h)]
        past.append(h)
        del past[: -2 * d_h]
        return layer.convolve(torch.cat([*rows, h], dim=2), bias, row_dilation=1)
