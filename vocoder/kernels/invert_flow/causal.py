"""The row op of flows that are causal along columns: chunk after chunk, with a state between them.

Nothing to the right is seen, so columns can go through all rows and flows as they come, given the
last 2 · d_w columns of every layer's input. That state has a fixed size: a long utterance needs no
more memory than a short one, and a stream no look-ahead but that of its mel.

Plain matrix products over channels-last rows, on any device: three for the dilated convolution, one
for each of its columns, over the three rows side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.kernels.invert_flow.op import FlowWeights, Source

COLUMNS = 256  # at once, of an utterance that is there as a whole; the rows then stay in the cache


class CausalInverter:
    """The inverse of a causal voice's flows, packed once and then used for every utterance.

    Args:
        flows: The flows in forward order, all of one size; the tensors that they share are packed
            once.
        memory: The bytes that an utterance may take; None is as many as it wants.

    Raises:
        VocoderError: the memory is too little for these flows.
    """

    def __init__(self, flows: Sequence[FlowWeights], memory: int | None = None) -> None:
        assert all(flow.causal for flow in flows)
        shared: dict[int, _SharedLayer] = {}
        self.flows = [_Flow(weights, shared) for weights in reversed(flows)]
        self.n_height = len(flows[0].order)
        self.dtype = flows[0].dtype
        if memory is not None and (needed := self.bytes_needed()) > memory:
            raise VocoderError(
                f"memory {memory / 2**20:.0f} MB: this voice takes {needed / 2**20:.0f} MB for any "
                "utterance; allow that much (--memory)"
            )

    def invert_in_place(self, z: Tensor, cond: Source, lengths: Tensor | None = None) -> None:
        """Map noise to data through all flows, each item for itself; see `Inverter`."""
        widths = [z.shape[2]] * len(z) if lengths is None else lengths.tolist()
        for i, width in enumerate(widths):

            def mel(lo: int, hi: int, item: slice = slice(i, i + 1)) -> Tensor:
                (own,) = cond(item, lo, hi)
                return own

            self.start().invert_in_place(z[i, :, :width], mel)
            z[i, :, width:] = 0

    def start(self, n_columns: int = COLUMNS) -> CausalInversion:
        """Begin an utterance, of which up to `n_columns` will come at once."""
        return CausalInversion(self.flows, n_columns)

    def bytes_needed(self, n_columns: int = COLUMNS) -> int:
        """Return about how much memory an utterance takes beside z, x, its mel and the weights."""
        state = sum(flow.state_size(n_columns) for flow in self.flows)
        layers = self.flows[0].layers
        n_bands, n_gates = layers[0].shared.cond.shape
        scratch = self.n_height * n_columns * (len(layers) * n_gates + 3 * n_bands)
        return layers[0].bias.itemsize * (state + scratch)


class CausalInversion:
    """One utterance on its way through the inverse, and all that later columns need of it."""

    def __init__(self, flows: Sequence[_Flow], n_columns: int) -> None:
        self.flows = flows
        self.n_columns = n_columns
        self.histories = [flow.histories(n_columns) for flow in flows]
        self._width = 0  # of the columns that the steps are bound for
        self._steps: list[list[list[_Step]]] = []  # of each flow, row and layer

    @torch.no_grad()
    def __call__(self, z: Tensor, mel: Tensor) -> Tensor:
        """Map the next columns of noise to data through all flows.

        Args:
            z: (H, W), of the weights' type, rows in natural order; at most `n_columns` columns.
            mel: (H, W, M), what the layers are conditioned on.

        Returns:
            x (H, W).
        """
        n_columns = z.shape[1]
        assert n_columns <= self.n_columns
        if n_columns != self._width:
            self._bind(z)
        x = z.clone()
        projected: list[_SharedLayer] = []
        for flow, histories, rows in zip(self.flows, self.histories, self._steps, strict=True):
            layers = [layer.shared for layer in flow.layers]
            if layers != projected:
                for layer, cond in zip(layers, self._cond, strict=True):
                    torch.matmul(mel, layer.cond, out=cond)
                projected = layers
            flow.invert(x, rows, self._params)
            for history in histories:
                history.advance(n_columns)
        return x

    def invert_in_place(self, z: Tensor, mel: Callable[[int, int], Tensor]) -> None:
        """Map the next columns of noise to data, however many, `n_columns` at a time.

        Args:
            z: (H, W), of any strides; becomes x.
            mel: gives the conditioning (H, hi − lo, M) of columns [lo, hi) of z.
        """
        for lo in range(0, z.shape[1], self.n_columns):
            hi = min(lo + self.n_columns, z.shape[1])
            z[:, lo:hi] = self(z[:, lo:hi], mel(lo, hi))

    def _bind(self, z: Tensor) -> None:
        """Make all views and buffers for columns of this number, once."""
        H, W = z.shape
        C = len(self.flows[0].front_weight)
        self._width = W
        self._params = z.new_empty(W, 2)
        self._cond = [z.new_empty(H, W, 2 * C) for _ in self.flows[0].layers]
        a, gate = z.new_empty(W, 2 * C), z.new_empty(W, C)
        mixed, last = z.new_empty(W, C + 2), z.new_empty(W, 2)
        self._steps = [
            [
                [
                    _Step(
                        layer,
                        history.windows(index, W),
                        history.row(index, W),
                        None if following is None else following.row(index, W),
                        cond[visit],
                        (a, gate, last if following is None else mixed),
                    )
                    for layer, cond, history, following in zip(
                        flow.layers, self._cond, histories, [*histories[1:], None], strict=True
                    )
                ]
                for index, visit in enumerate(flow.visits)
            ]
            for flow, histories in zip(self.flows, self.histories, strict=True)
        ]


class _SharedLayer:
    """What the flows that share a layer have in common.

    The activations h of layer l are kept divided by scale^l, so that each layer merely adds to
    them; its convolution makes up for it. tanh(a) is taken as 2 σ(2a) − 1, hence the doubled half.
    """

    def __init__(self, conv: Tensor, cond: Tensor, factor: float) -> None:
        taps = conv.double().unflatten(0, (3, 3)) * factor  # (3 rows, 3 columns, C, 2C)
        taps = taps.transpose(0, 1).flatten(1, 2) * doubled_tanh(taps)
        self.taps = taps.to(conv.dtype).contiguous()  # (3 columns, 3 rows · C, 2C), oldest first
        self.cond = cond * doubled_tanh(cond)


class _FlowLayer:
    """A layer in one flow: what it shares, its bias, and its residual and projection in one."""

    def __init__(self, shared: _SharedLayer, weights: FlowWeights, index: int) -> None:
        w = weights.layers[index]
        self.shared = shared
        self.dilation = weights.dilations[index]
        self.bias = (w.bias * doubled_tanh(w.bias)).to(weights.dtype)
        mix, mix_bias = w.out, torch.zeros_like(w.out[0])
        if index == 0:
            mix_bias = weights.out_bias
        if w.res is not None and w.res_bias is not None:
            gain = weights.scale**-index * (1.0 if w.gate is None else w.gate)
            mix = torch.cat([w.res * gain, mix], dim=1)
            mix_bias = torch.cat([w.res_bias * gain, mix_bias])
        self.mix = -mix.to(weights.dtype)  # of −σ(b) (2 σ(2a) − 1), which the gate computes
        self.mix_bias = mix_bias.to(weights.dtype)


class _Flow:
    """One flow: its layers, and which rows it visits."""

    def __init__(self, weights: FlowWeights, shared: dict[int, _SharedLayer]) -> None:
        self.layers = []
        for i, w in enumerate(weights.layers):
            if id(w.conv) not in shared:
                assert w.cond is not None
                shared[id(w.conv)] = _SharedLayer(w.conv, w.cond, weights.scale**i)
            self.layers.append(_FlowLayer(shared[id(w.conv)], weights, i))
        self.front_weight = weights.front_weight.to(weights.dtype)
        self.front_bias = weights.front_bias.to(weights.dtype)
        self.visits = weights.visits
        self.first_input = weights.order[0] if weights.passthrough else None

    def histories(self, n_columns: int) -> list[_History]:
        """Return room for the input of each layer."""
        like = self.front_weight
        return [
            _History(len(self.visits), layer.dilation, n_columns, like) for layer in self.layers
        ]

    def state_size(self, n_columns: int) -> int:
        """Return the numbers that the histories hold."""
        sizes = (_history_size(len(self.visits), la.dilation, n_columns) for la in self.layers)
        return sum(columns * slots for columns, slots in sizes) * len(self.front_weight)

    def invert(self, x: Tensor, rows: Sequence[Sequence[_Step]], params: Tensor) -> None:
        """Turn the columns x (H, W) in place from this flow's z into its data, row after row.

        Args:
            x: rows in natural order.
            rows: the steps of each visited row.
            params: (W, 2), to work in.
        """
        row = torch.zeros_like(x[0]) if self.first_input is None else x[self.first_input]
        log_s, t = params.unbind(1)
        for visit, steps in zip(self.visits, rows, strict=True):
            front = steps[0].h
            torch.addcmul(self.front_bias, row.unsqueeze(-1), self.front_weight, out=front)
            params.zero_()
            for step in steps:
                step(params)
            row = x[visit].sub_(t).mul_(log_s.neg_().exp_())


class _Step:
    """One layer on one row of one flow: views that are made once, and what is done with them.

    Args:
        layer: its weights.
        windows: what the taps see of the layer's input, see `_History.windows`.
        h: (W, C), the row's own input.
        h_next: (W, C), where the input of the layer after it goes; None in the last layer.
        cond: (W, 2C), the projected conditioning.
        scratch: (W, 2C), (W, C) and (W, C + 2), or (W, 2) in the last layer.
    """

    def __init__(
        self,
        layer: _FlowLayer,
        windows: Sequence[Tensor],
        h: Tensor,
        h_next: Tensor | None,
        cond: Tensor,
        scratch: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        self.layer, self.h, self.h_next, self.cond = layer, h, h_next, cond
        self.taps = list(zip(windows, layer.shared.taps, strict=True))
        self.a, self.gate, self.mixed = scratch
        self.tanh, self.sigmoid = self.a.chunk(2, dim=1)
        self.residual, self.params = self.mixed[:, :-2], self.mixed[:, -2:]

    def __call__(self, params: Tensor) -> None:
        """Compute the next layer's input, and add to the parameters (W, 2)."""
        a, layer = self.a, self.layer
        (oldest, taps_0), (middle, taps_1), (newest, taps_2) = self.taps
        torch.addmm(layer.bias, oldest, taps_0, out=a)
        a.addmm_(middle, taps_1).addmm_(newest, taps_2).add_(self.cond).sigmoid_()
        torch.addcmul(self.sigmoid, self.tanh, self.sigmoid, value=-2, out=self.gate)
        torch.addmm(layer.mix_bias, self.gate, layer.mix, out=self.mixed)
        params.add_(self.params)
        if self.h_next is not None:
            torch.add(self.h, self.residual, out=self.h_next)


class _History:
    """The latest columns of a layer's input in all rows, as far back as its convolution reaches.

    Rows d_h apart lie side by side behind two rows of zeros, so that the three that a row sees are
    one run of 3 · C numbers in each column. The columns before the newest ones come first.
    """

    def __init__(
        self, n_rows: int, dilation: tuple[int, int], n_columns: int, like: Tensor
    ) -> None:
        self.d_h, d_w = dilation
        self.reach = 2 * d_w
        columns, slots = _history_size(n_rows, dilation, n_columns)
        self.per_ring = slots // self.d_h
        self.h = like.new_zeros(columns, slots, len(like))

    def row(self, index: int, n_columns: int) -> Tensor:
        """Return the room (columns, C) for the newest columns of a row."""
        return self.h[self.reach : self.reach + n_columns, self._slot(index)]

    def windows(self, index: int, n_columns: int) -> list[Tensor]:
        """Return what the taps of a row see for the newest columns, (columns, 3C), oldest first."""
        C = self.h.shape[2]
        start = (self._slot(index) - 2) * C
        flat = self.h.flatten(1)[:, start : start + 3 * C]
        return [flat[first : first + n_columns] for first in (0, self.reach // 2, self.reach)]

    def advance(self, n_columns: int) -> None:
        """Make room for newer columns than these."""
        kept = self.h[n_columns : n_columns + self.reach]
        self.h[: self.reach] = kept if n_columns >= self.reach else kept.clone()

    def _slot(self, index: int) -> int:
        return index % self.d_h * self.per_ring + 2 + index // self.d_h


def _history_size(n_rows: int, dilation: tuple[int, int], n_columns: int) -> tuple[int, int]:
    """Return the columns and rows of a history."""
    d_h, d_w = dilation
    return 2 * d_w + n_columns, d_h * (2 + -(-n_rows // d_h))


def doubled_tanh(like: Tensor) -> Tensor:
    """Return the factors (2C,): 2 for the tanh half, 1 for the sigmoid half."""
    factors = like.new_ones(like.shape[-1])
    factors[: len(factors) // 2] = 2
    return factors
