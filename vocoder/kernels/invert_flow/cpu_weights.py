"""A flow's weights as the CPU's row op wants them: every factor and bias in a matrix, made once."""

from __future__ import annotations

import torch
from torch import Tensor

from vocoder.kernels.invert_flow.causal import doubled_tanh
from vocoder.kernels.invert_flow.op import FlowWeights
from vocoder.kernels.winograd import MIDDLE, Filtering

FEATURES = 12  # of layer 0: 3 × 3 samples, and which of the 3 columns lie inside


class SharedLayer:
    """What the flows that share a layer have in common.

    The activations h of layer l are kept divided by scale^l, so that each layer merely adds to
    them; its convolution makes up for it. The tanh half of the pre-activation comes doubled.
    """

    def __init__(self, conv: Tensor, cond: Tensor, factor: float) -> None:
        taps = conv.double().unflatten(0, (3, 3)) * factor
        taps = taps * doubled_tanh(taps)
        self.taps = taps.to(conv.dtype)
        self.cond = (cond * doubled_tanh(cond)).contiguous()
        self._factors: dict[Filtering, Tensor] = {}
        self._by_taps: dict[tuple[Filtering, int, int], Tensor] = {}

    def factors(self, filtering: Filtering, taps: slice) -> Tensor:
        """Return the factors (P, taps · C, 2C) of some of the row taps 0, 1, 2, 0, 1.

        Tap 0 is that of the oldest row. See `Queue.window` for why two of them come twice.
        """
        key = filtering, taps.start, taps.stop
        if key not in self._by_taps:
            if filtering not in self._factors:
                kept = self.taps[:, 1:2] if filtering is MIDDLE else self.taps
                factors = filtering.factors(kept)
                self._factors[filtering] = torch.cat([factors, factors[:, :2]], dim=1)
            self._by_taps[key] = self._factors[filtering][:, taps].flatten(1, 2)  # a view
        return self._by_taps[key]


class FlowLayer:
    """A layer in one flow: what it shares, its bias, and its residual and projection in one."""

    def __init__(self, shared: SharedLayer, weights: FlowWeights, index: int) -> None:
        w = weights.layers[index]
        self.shared = shared
        self.bias = w.bias.to(weights.dtype) * doubled_tanh(w.bias)
        self.mix = w.out  # (C, C + 2), or (C, 2) without a residual
        self.res_bias: Tensor | None = None
        if w.res is not None and w.res_bias is not None:
            gain = weights.scale**-index * (1.0 if w.gate is None else w.gate)
            self.mix = torch.cat([w.res * gain, w.out], dim=1)
            self.res_bias = (w.res_bias * gain).to(weights.dtype)
        # −σ(b) (2 σ(2a) − 1) is what the gate computes.
        self.mix = -self.mix.to(weights.dtype)


class Opener:
    """Layer 0: its input is one channel, so that a row is a product with nine samples.

    Zero padding makes the front's bias appear only where a column and a row exist, hence the three
    features that say which columns lie inside, and one matrix for each number of rows so far.
    """

    def __init__(self, layer: FlowLayer, weights: FlowWeights) -> None:
        front = weights.front_weight.double(), weights.front_bias.double()
        by_weight, by_bias = (f @ layer.shared.taps.double() for f in front)  # (3, 3, 2C)
        self.matrices = []
        for n_rows in (1, 2, 3):
            features = torch.cat([by_weight.flatten(0, 1), by_bias[-n_rows:].sum(dim=0)])
            features[10] += layer.bias.double()  # the middle column always lies inside
            self.matrices.append(features.to(weights.dtype))
        self.front = torch.zeros(FEATURES, weights.channels, dtype=weights.dtype)
        self.front[7] = weights.front_weight
        self.front[10] = weights.front_bias
        if layer.res_bias is not None:
            self.front[10] += layer.res_bias


class Flow:
    """One flow: its layers, and which rows it visits."""

    def __init__(self, weights: FlowWeights, shared: dict[int, SharedLayer]) -> None:
        self.layers = []
        for i, w in enumerate(weights.layers):
            if id(w.conv) not in shared:
                assert w.cond is not None
                shared[id(w.conv)] = SharedLayer(w.conv, w.cond, weights.scale**i)
            self.layers.append(FlowLayer(shared[id(w.conv)], weights, i))
        self.opener = Opener(self.layers[0], weights)
        self.out_bias = weights.out_bias.to(weights.dtype)
        self.visits = weights.visits
        # The network's input rows: the visited row before each, or None for a row of zeros.
        before = weights.order[: len(self.visits)] if weights.passthrough else weights.order[:-1]
        self.inputs = list(before) if weights.passthrough else [None, *before]
