"""The WaveNet of a coupling on a CPU: channels-last products, with Winograd's F(4, 3).

`nets.wavenet1d.WaveNet1d` defines it. What is saved is exact algebra: half of the products of the
dilated convolutions (`winograd`), the skips (whatever linear map follows them is part of each
layer's last product), a linear front (part of layer 0) and the last residual. tanh(a) is taken as
2 σ(2a) − 1, since torch's σ is three times as fast as its tanh.

A layer is computed some thousand columns at a time: fewer are slower products, and more are further
from the core in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.kernels.winograd import MIDDLE, Filtering, choose_filtering

NARROW = 128  # channels, below which Winograd's passes over memory cost what it saves
COLUMNS = 4096  # that a layer computes at once, or one block of tiles if that is longer


class Scratch:
    """Memory for intermediate results, taken once: fresh memory costs more than to write it.

    Args:
        like: A tensor of the type wanted.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return the buffer of that name in a shape; what was in it is lost."""
        size = math.prod(shape)
        if name not in self.buffers or len(self.buffers[name]) < size:
            self.buffers[name] = self.like.new_empty(size)
        return self.buffers[name][:size].view(shape)


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer; matrices map from their last axis but one to their last.

    Args:
        conv: (3, C, 2C), the taps of the dilated convolution.
        bias: (2C,), all that is added before the gate whatever the input.
        cond: Projection (n_cond, 2C) of the conditioning.
        res: (C, C); None in the last layer.
        res_bias: (C,), or None as `res` is.
        out: (C, n_out), what the layer adds to the output.
    """

    conv: Tensor
    bias: Tensor
    cond: Tensor
    res: Tensor | None
    res_bias: Tensor | None
    out: Tensor


class CpuWaveNet:
    """A WaveNet over columns that sees to both sides, packed once.

    Args:
        layers: The weights of each layer.
        dilations: Dilations in columns, one a layer.
        out_bias: What is added to the output, (n_out,).
        scale: Factor of what each layer hands to the next.
        front: (n_in, C), the linear map in front of layer 0; None: its input is that of layer 0.
    """

    def __init__(
        self,
        layers: Sequence[LayerWeights],
        dilations: Sequence[int],
        out_bias: Tensor,
        scale: float = 1.0,
        front: Tensor | None = None,
    ) -> None:
        self.dilations = tuple(dilations)
        self.scale = scale
        self.front = front
        self.layers = [_Layer(weights, scale) for weights in layers]
        first = self.layers[0]  # whose output is the first, so that the bias is put into it
        self.n_out = len(out_bias)
        first.mix_bias = torch.cat([first.mix_bias[: -self.n_out], out_bias])
        if front is not None:  # three columns of the input, side by side, to layer 0's a
            self.opener = _doubled((front @ layers[0].conv).flatten(0, 1))

    @property
    def reach(self) -> int:
        """Columns to each side that the output of one depends on."""
        return sum(self.dilations)

    @torch.no_grad()
    def __call__(
        self,
        x: Tensor,
        cond: Tensor,
        left: int = 0,
        right: int = 0,
        scratch: Scratch | None = None,
    ) -> Tensor:
        """Return the sum of what the layers put out, with its bias.

        Args:
            x: (n, n_in) or, without a front, (n, C). Beyond its ends, zeros are seen.
            cond: Conditioning (n, n_cond).
            left: Columns at the start that are there to be seen alone. If fewer than the reach,
                nothing lies before them.
            right: Columns at the end, likewise.
            scratch: Memory of calls before this one; None takes its own.

        Returns:
            (n − left − right, n_out), in the memory of `scratch`.
        """
        n, pad = len(x), max(self.dilations)
        room = pad + n + 6 * pad  # with what the last tiles see and write beyond the end
        C = self.layers[0].channels
        scratch = Scratch(x) if scratch is None else scratch
        out = scratch("out", room, self.n_out)
        h, after = scratch("h", room, C), scratch("after", room, C)
        _zero_around(h, pad, pad + n)
        inner = h[pad : pad + n]
        if self.front is None:
            inner.copy_(x)
        else:
            torch.mm(x, self.front, out=inner)
        for index, (start, stop) in enumerate(self._spans(n, left, right)):
            run = _Run(self, index, cond, h, after, out, pad, scratch)
            d = self.dilations[index]
            if index == 0 and self.front is not None:
                run.direct(F.pad(x, (0, 0, d, d)), self.opener, start, stop)
            elif C < NARROW:
                taps = self.layers[index].conv.flatten(0, 1)
                run.direct(h[pad - d : pad + n + d], taps, start, stop)
            else:
                run.winograd(start, stop)
            _zero_around(after, pad + start, pad + stop)
            h, after = after, h
        return out[pad + left : pad + n - right]

    def _spans(self, n: int, left: int, right: int) -> list[tuple[int, int]]:
        """Return which columns each layer must compute."""
        spans, margin = [], 0
        for dilation in reversed(self.dilations):
            spans.append((max(0, left - margin), min(n, n - right + margin)))
            margin += dilation
        return spans[::-1]


class _Layer:
    """A layer's weights as its products take them.

    Attributes:
        factors: (P, C, 2C) by filtering.
        mix: (C, C + n_out) or (C, n_out), from the gated features to residual and output.
    """

    def __init__(self, weights: LayerWeights, scale: float) -> None:
        self.channels = weights.conv.shape[1]
        self.conv = _doubled(weights.conv)
        self.factors: dict[int, Tensor] = {}
        self.bias = _doubled(weights.bias)
        self.cond = _doubled(weights.cond).contiguous()
        out = weights.out
        self.mix, self.mix_bias = out, out.new_zeros(out.shape[1])
        if weights.res is not None and weights.res_bias is not None:
            self.mix = torch.cat([scale * weights.res, out], dim=1)
            self.mix_bias = torch.cat([scale * weights.res_bias, self.mix_bias])
        self.has_residual = weights.res is not None
        self.mix = (2 * self.mix).contiguous()  # of half of tanh, which the gate is given

    def factors_of(self, filtering: Filtering) -> Tensor:
        """Return the taps as factors of a filtering, computed at the first use."""
        if filtering.m not in self.factors:
            self.factors[filtering.m] = filtering.factors(self.conv)
        return self.factors[filtering.m]


class _Run:
    """One layer of one call.

    Args:
        net: The network.
        index: Number of the layer.
        cond: Conditioning (n, n_cond).
        h: The layer's input (room, C), column 0 in row `pad`.
        after: What it hands on, of the same shape.
        out: Output (room, n_out), to which the layer adds.
        pad: Rows before column 0.
        scratch: Memory to work in.
    """

    def __init__(
        self,
        net: CpuWaveNet,
        index: int,
        cond: Tensor,
        h: Tensor,
        after: Tensor,
        out: Tensor,
        pad: int,
        scratch: Scratch,
    ) -> None:
        self.weights, self.is_first = net.layers[index], index == 0
        self.dilation = net.dilations[index]
        self.net, self.cond, self.h, self.after, self.out, self.pad = net, cond, h, after, out, pad
        self.scratch = scratch

    def direct(self, x: Tensor, taps: Tensor, start: int, stop: int) -> None:
        """Do the layer for the columns [start, stop) by one product for all three taps.

        Args:
            x: What it convolves (d + n + d, c), with the columns that it sees beyond its own.
            taps: (3 · c, 2C), from three columns side by side.
            start: The first column.
            stop: One past the last column.
        """
        d, weights = self.dilation, self.weights
        for lo in range(start, stop, COLUMNS):
            hi = min(lo + COLUMNS, stop)
            seen = self.scratch("seen", hi - lo, len(taps))
            torch.cat([x[lo + k * d : hi + k * d] for k in range(3)], dim=1, out=seen)
            a = self.scratch("a", hi - lo, len(weights.bias))
            torch.addmm(weights.bias, seen, taps, out=a)
            a.addmm_(self.cond[lo:hi], weights.cond)
            self._mix(a, lo)

    def winograd(self, start: int, stop: int) -> None:
        """Do the layer for the columns [start, stop)."""
        width = stop - start
        # By how many columns there are at all: those before and after are seen too.
        d = self.dilation
        filtering = MIDDLE if d >= len(self.cond) else choose_filtering(max(width, d + 1), d)
        if filtering is MIDDLE:
            d = width
        block = filtering.m * d
        n_blocks = math.ceil(width / block)
        step = max(1, COLUMNS // block)
        for first in range(0, n_blocks, step):
            n = min(step, n_blocks - first)
            self._tiles(filtering, start + first * block, n, d)

    def _tiles(self, filtering: Filtering, lo: int, n_blocks: int, d: int) -> None:
        """Do the tiles of some blocks from column `lo` on.

        Args:
            filtering: How the convolution is computed.
            lo: The first column.
            n_blocks: How many blocks there are.
            d: Dilation of the tiles.
        """
        m, P, C = filtering.m, filtering.n_products, self.weights.channels
        halo = 0 if filtering is MIDDLE else d
        inputs = self.h.as_strided(
            (P, n_blocks, d * C), (d * C, m * d * C, 1), (self.pad + lo - halo) * C
        )
        n = n_blocks * d
        transformed = self.scratch("transformed", P, n_blocks, d * C)
        products = self.scratch("products", P, n, 2 * C)
        filtering.bind(inputs, transformed, products.view(-1))()
        factors = self.weights.factors_of(filtering)
        torch.bmm(transformed.view(P, n, C), factors, out=products)
        products[filtering.ones] += self.weights.bias
        a = self.scratch("a", m * n, 2 * C)
        cond = self.cond[lo : lo + m * n]
        torch.mm(cond, self.weights.cond, out=a[: len(cond)])
        a[len(cond) :] = 0
        a.view(n_blocks, m, d * 2 * C).baddbmm_(
            filtering.output_matrix(a).expand(n_blocks, m, P),
            products.view(P, n_blocks, d * 2 * C).transpose(0, 1),
        )
        self._mix(a[: len(cond)], lo)

    def _mix(self, a: Tensor, lo: int) -> None:
        """Gate a (n, 2C), of the columns from `lo` on; add to the output, hand on the residual."""
        weights, places = self.weights, slice(self.pad + lo, self.pad + lo + len(a))
        C = weights.channels
        a.sigmoid_()
        y = self.scratch("y", len(a), C)
        torch.mul(a[:, :C].sub_(0.5), a[:, C:], out=y)
        mixed = self.scratch("mixed", len(a), len(weights.mix_bias))
        torch.addmm(weights.mix_bias, y, weights.mix, out=mixed)
        if weights.has_residual:
            h, after = self.h[places], self.after[places]
            torch.add(mixed[:, :C], h, alpha=self.net.scale, out=after)
            mixed = mixed[:, C:]
        if self.is_first:
            self.out[places] = mixed
        else:
            self.out[places] += mixed


def _zero_around(columns: Tensor, lo: int, hi: int) -> None:
    """Put zeros into all rows but [lo, hi), which the tiles at the edges see."""
    columns[:lo] = 0
    columns[hi:] = 0


def _doubled(weights: Tensor) -> Tensor:
    """Return weights (..., 2C) with their first C outputs, those of tanh, doubled."""
    first, second = weights.chunk(2, dim=-1)
    return torch.cat([2 * first, second], dim=-1)
