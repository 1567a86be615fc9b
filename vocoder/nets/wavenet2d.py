"""The density estimator of WaveFlow and NanoFlow: a WaveNet over the rows of a folded waveform.

The modules hold the parameters; `kernels.gated_conv2d` computes. Inside, everything is channels
last, (B, H, W, C). Source: WaveFlow (ICML 2020), §3.2; L0SG/NanoFlow and L0SG/WaveFlow for the
details.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vocoder.kernels.gated_conv.op import SharedWeights, gated_conv2d, pack_gated_conv, wide
from vocoder.kernels.invert_flow.op import Conditioning, FlowWeights

Residual = Literal["plain", "scaled", "gated"]  # h + r, (h + r) · √½, h + gate · r


@dataclass(frozen=True)
class FlowParameters:
    """What one flow adds to a network that others may share.

    Args:
        shift: (L, 2C), added to the pre-activation of each layer (the flow embedding), or None.
        gate: (L, C), factor of each layer's residual for `residual="gated"`, or None.
    """

    shift: Tensor | None = None
    gate: Tensor | None = None


class WaveNet2d(nn.Module):
    """Parameters of gated residual layers, causal along rows.

    Args:
        channels: residual channels C.
        n_mels: conditioning bands M.
        n_layers: layers L; layer l has the width dilation 2^l.
        n_layers_per_cycle: layer l has the height dilation 2^(l mod n_layers_per_cycle).
        residual: how a layer's output joins its input.
        causal: Whether to see no column to the right either, instead of as many as to the left.
    """

    def __init__(
        self,
        channels: int,
        n_mels: int,
        n_layers: int,
        n_layers_per_cycle: int,
        residual: Residual,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.front = weight_norm(nn.Conv2d(1, channels, 1))
        self.layers = nn.ModuleList(GatedLayer(channels, n_mels) for _ in range(n_layers))
        self.dilations = tuple((2 ** (i % n_layers_per_cycle), 2**i) for i in range(n_layers))
        self.scale = math.sqrt(0.5) if residual == "scaled" else 1.0

    def pack(self) -> NetWeights:
        """Pack what the flows share that use this network."""
        *layers, last = cast("list[GatedLayer]", list(self.layers))
        front: Any = self.front
        return NetWeights(
            layers=(*(layer.pack() for layer in layers), last.pack(last=True)),
            front_weight=wide(front.weight.flatten()),
            front_bias=wide(front.bias),
            dilations=self.dilations,
            scale=self.scale,
            causal=self.causal,
        )


class GatedLayer(nn.Module):
    """Parameters of a dilated 3 × 3 convolution, conditioning, and 1 × 1 residual and skip.

    Args:
        channels: residual channels C.
        n_mels: conditioning bands M.
    """

    def __init__(self, channels: int, n_mels: int) -> None:
        super().__init__()
        self.conv: Any = weight_norm(nn.Conv2d(channels, 2 * channels, 3))
        self.cond: Any = weight_norm(nn.Conv2d(n_mels, 2 * channels, 1))
        self.res_skip: Any = weight_norm(nn.Conv2d(channels, 2 * channels, 1))

    def pack(self, *, last: bool = False) -> SharedWeights:
        """Pack for the op; the last layer's residual half is in the checkpoints, but unused."""
        return pack_gated_conv(
            self.conv.weight,
            wide(self.conv.bias) + wide(self.cond.bias),
            self.cond.weight,
            self.res_skip.weight,
            self.res_skip.bias,
            last=last,
        )


class Head(nn.Module):
    """1 × 1 projection of the skips to the parameters of the elementwise transform.

    Args:
        channels: Number of channels C.
        n_params: output channels n.
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

    def pack(self) -> tuple[Tensor, Tensor]:
        """Return the matrix (C, n) and the constant (n,) that the head amounts to."""
        weight, bias = wide(self.conv.weight[:, :, 0, 0]), wide(cast(Tensor, self.conv.bias))
        if self.scale is not None:
            factor = (3 * wide(self.scale.flatten())).exp()
            weight, bias = weight * factor[:, None], bias * factor
        return weight.t(), bias


@dataclass(frozen=True)
class NetWeights:
    """The weights of a network, packed once for all flows that share it.

    Args:
        layers: Weights of the layers; see `SharedWeights`.
        front_weight: (C,), of the 1 × 1 convolution from one channel to h_0.
        front_bias: Bias (C,) of that convolution.
        dilations: along rows and along columns, one pair a layer.
        scale: factor of every layer's h_next.
        causal: no layer sees a column to the right.
    """

    layers: tuple[SharedWeights, ...]
    front_weight: Tensor
    front_bias: Tensor
    dilations: tuple[tuple[int, int], ...]
    scale: float
    causal: bool

    def project(self, mel: Tensor) -> list[Tensor]:
        """Project the conditioning (B, H, W, M) for each layer, (B, H, W, 2C), without bias."""
        return [mel @ layer.cond for layer in self.layers]

    def for_flow(
        self,
        head: Head,
        flow: FlowParameters,
        order: tuple[int, ...],
        passthrough: bool,
        *,
        projected: bool,
    ) -> FlowWeights:
        """Return all that one flow needs; see `FlowWeights` and `SharedWeights.for_flow`."""
        matrix, out_bias = head.pack()
        layers = []
        for i, layer in enumerate(self.layers):
            shift = None if flow.shift is None else flow.shift[i]
            gate = None if flow.gate is None else flow.gate[i]
            layers.append(layer.for_flow(matrix, shift, gate, projected=projected))
            out_bias = out_bias + layer.skip_bias @ matrix
        return FlowWeights(
            layers=tuple(layers),
            front_weight=self.front_weight,
            front_bias=self.front_bias,
            out_bias=out_bias,
            dilations=self.dilations,
            scale=self.scale,
            order=order,
            passthrough=passthrough,
            causal=self.causal,
        )


@dataclass(frozen=True)
class Estimator:
    """What one flow step calls: the network, on rows in visiting order.

    Args:
        weights: Weights of the flow.
        mask: (B, 1, W, 1), false beyond the end of each item of a padded batch, or None.
    """

    weights: FlowWeights
    mask: Tensor | None = None

    def __call__(self, rows: Tensor, cond: Conditioning) -> Tensor:
        """Map input rows (B, H, W) to parameters (B, n, H, W) of the rows beside them.

        Args:
            rows: output row r sees the rows ≤ r of these.
            cond: one mel (B, H, W, M), or one projected (B, H, W, 2C) for each layer.
        """
        return self._run(rows, cond, [None] * len(self.weights.layers))

    def queue(self, cond: Conditioning) -> WaveNetQueue:
        """Return the same function, fed one row at a time."""
        return WaveNetQueue(self, cond)

    def _run(self, rows: Tensor, cond: Conditioning, past: list[Tensor | None]) -> Tensor:
        """Compute the parameters, given the rows above the first of every layer's input."""
        w = self.weights
        h = torch.addcmul(w.front_bias, rows.unsqueeze(-1), w.front_weight)
        h = h.to(w.layers[0].conv.dtype)
        params = w.out_bias
        for i, layer in enumerate(w.layers):
            if self.mask is not None:
                h = h * self.mask
            c = cond if isinstance(cond, Tensor) else cond[i]
            h_next, y = gated_conv2d(
                h,
                c,
                layer,
                dilation=w.dilations[i],
                scale=w.scale,
                causal=w.causal,
                past=past[i],
            )
            if (above := past[i]) is not None:
                past[i] = torch.cat([above, h], dim=1)[:, h.shape[1] :]
            params = params + y
            h = h if h_next is None else h_next
        return params.movedim(-1, 1)


class WaveNetQueue:
    """`Estimator` one row at a time: keeps the past rows that each layer's convolution reaches.

    The rows are the state; the weights are only read. Exact for every height dilation.
    """

    def __init__(self, estimator: Estimator, cond: Conditioning) -> None:
        self.estimator = estimator
        self.cond = cond
        self.n_rows = 0
        self.past: list[Tensor | None] = []

    def step(self, row: Tensor) -> Tensor:
        """Take input row (B, W); return the parameters (B, n, W) of the output row beside it."""
        w = self.estimator.weights
        if not self.past:
            B, W = row.shape
            self.past = [
                row.new_zeros((B, 2 * d_h, W, w.channels), dtype=w.dtype) for d_h, _ in w.dilations
            ]
        here = slice(self.n_rows, self.n_rows + 1)
        self.n_rows += 1
        cond: Conditioning
        if isinstance(self.cond, Tensor):
            cond = self.cond[:, here]
        else:
            cond = [c[:, here] for c in self.cond]
        return self.estimator._run(row.unsqueeze(1), cond, self.past).squeeze(2)
