"""The row op on a CPU: matrix products over channels-last rows, with Winograd's F(4, 3).

What it saves over the plain layer is exact algebra: half of the products of the dilated
convolution (`winograd`), the skip path (folded into the projection), layer 0 (one product with
nine samples), the last residual, the rows above the first, and every factor and bias that fits
into a matrix. tanh(a) is taken as 2 σ(2a) − 1, since torch's σ is three times as fast as its tanh.

What it saves in overhead: a layer's step on a row is some twenty operations between the same few
buffers in every flow, so their views are made once (`_LayerStep`), and nothing is allocated.

Nothing is flipped or copied for the order of rows, and the model is only read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.kernels.row_tiles import Tiles
from vocoder.kernels.wavenet_row import Conditioning, FlowWeights
from vocoder.kernels.wavenet_row_causal import doubled_tanh, invert_causal_flow
from vocoder.kernels.winograd import F2, F4, MIDDLE, Filtering, choose_filtering

Mel = Callable[[int, int], Tensor]
"""Columns [lo, hi) of the upsampled mel, as rows in natural order: (B, H, hi − lo, M)."""

_ROWS = 3  # that a convolution reaches
_FEATURES = 12  # of layer 0: 3 × 3 samples, and which of the 3 columns lie inside
_UPSAMPLED = 8192  # samples whose mel is upsampled at once ...
_UPSAMPLING = 4  # ... which takes about so many times the memory of the result
_LIBRARIES = 8 * 2**20  # bytes that the libraries' matrix products take for themselves
_VIEWS = 24 * 2**10  # bytes of a bound layer step


class RowInverter:
    """The inverse of a voice's flows, packed once and then used for every utterance.

    Args:
        flows: in forward order, all of one size; the tensors that they share are packed once.
    """

    def __init__(self, flows: Sequence[FlowWeights]) -> None:
        shared: dict[int, _SharedLayer] = {}
        self.flows = [_Flow(weights, shared) for weights in reversed(flows)]
        self.shares_estimator = len(shared) < len(flows) * len(flows[0].layers)
        self.channels = flows[0].channels
        self.dilations = flows[0].dilations
        self.dtype = flows[0].dtype
        self.n_height = len(flows[0].order)
        self.n_rows = len(flows[0].visits)
        self.n_bands = self.flows[0].layers[0].shared.cond.shape[0]

    @property
    def n_steps(self) -> int:
        """Row steps of all flows."""
        return len(self.flows) * self.n_rows

    @property
    def most_bound(self) -> int:
        """Layer steps kept at a time: those of a whole flow, and as many at an utterance's ends."""
        return 2 * self.n_rows * len(self.dilations)

    @property
    def reach(self) -> int:
        """Columns to each side that a row depends on in the rows before it."""
        return sum(d for _, d in self.dilations)

    @property
    def lag(self) -> int:
        """Columns that each row of a tile lags behind the one before: whole blocks, ≥ reach."""
        block = 2 * max(d for _, d in self.dilations)
        return block * -(-self.reach // block)

    def bytes_needed(self, n_items: int, width: int, tiles: Tiles, project_once: bool) -> int:
        """Return about how much memory `invert_in_place` takes beside z and the weights."""
        C, M = self.channels, self.n_bands
        n_columns = min(tiles.tile, width) + 5 * max(d_w for _, d_w in self.dilations)
        if tiles.lag:
            n_columns += tiles.lag * (self.n_rows + 1 + 2 * max(d_h for d_h, _ in self.dilations))
        queues = sum(
            d_h * _ROWS * C * filtering.n_products / filtering.m
            for d_h, d_w in self.dilations[1:]
            for filtering in [_filtering(d_w, width, tiles.lag)]
        )
        buffers = 11 * C + M + 2 * _FEATURES  # of a row: `_Workspace`, h, and what comes in
        per_column = queues + buffers + self.n_height * M
        if project_once and self.shares_estimator and not tiles.lag:
            per_column += self.n_height * 2 * C * len(self.dilations)
        fixed = _UPSAMPLING * M * _UPSAMPLED
        if tiles.lag:
            strips = sum(2 * d_h * tiles.lag + d_w for d_h, d_w in self.dilations[1:])
            fixed += strips * self.n_steps * C
        apart = _LIBRARIES + _VIEWS * self.most_bound
        return apart + int(self.dtype.itemsize * n_items * (n_columns * per_column + fixed))

    def __call__(
        self,
        z: Tensor,
        mel: Mel,
        lengths: Sequence[int] | None = None,
        tiles: Tiles | None = None,
        *,
        project_once: bool = True,
    ) -> Tensor:
        """Return x (B, H, W) for noise z, which stays as it is; see `invert_in_place`."""
        x = z.clone()
        self.invert_in_place(x, mel, lengths, tiles, project_once=project_once)
        return x

    @torch.no_grad()
    def invert_in_place(
        self,
        z: Tensor,
        mel: Mel,
        lengths: Sequence[int] | None = None,
        tiles: Tiles | None = None,
        *,
        project_once: bool = True,
    ) -> None:
        """Map noise to data through all flows.

        Args:
            z: (B, H, W), of the weights' type and any strides, rows in natural order; becomes x.
            mel: what the layers are conditioned on.
            lengths: columns of each item of a padded batch, which comes out as it would alone, with
                zeros beyond its end; only without tiles.
            tiles: the windows to work in, for a single item; None takes all columns at once.
            project_once: keep the projected conditioning for all flows, if they share it, instead
                of projecting a row when it is its turn. Only without tiles.
        """
        tiles = tiles or Tiles.whole(z.shape[-1], self.n_steps)
        assert tiles.lag == 0 or (lengths is None and len(z) == 1)
        _Inversion(self, z, mel, lengths, tiles, project_once).run()


def invert_flow_cpu(
    z: Tensor, cond: Conditioning, weights: FlowWeights, lengths: Sequence[int] | None = None
) -> Tensor:
    """Do `invert_flow` for one mel (B, H, W, M) as conditioning."""
    assert isinstance(cond, Tensor)
    if weights.causal:
        return invert_causal_flow(z, cond, weights, lengths)
    return RowInverter([weights])(z, lambda lo, hi: cond[:, :, lo:hi], lengths)


class _SharedLayer:
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

    def factors(self, filtering: Filtering, taps: slice) -> Tensor:
        """Return the factors (P, taps · C, 2C) of some of the row taps 0, 1, 2, 0, 1.

        Tap 0 is that of the oldest row. See `_Queue.window` for why two of them come twice.
        """
        if filtering not in self._factors:
            kept = self.taps[:, 1:2] if filtering is MIDDLE else self.taps
            factors = filtering.factors(kept)
            self._factors[filtering] = torch.cat([factors, factors[:, :2]], dim=1)
        return self._factors[filtering][:, taps].flatten(1, 2)


class _FlowLayer:
    """A layer in one flow: what it shares, its bias, and its residual and projection in one."""

    def __init__(self, shared: _SharedLayer, weights: FlowWeights, index: int) -> None:
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


class _Opener:
    """Layer 0: its input is one channel, so that a row is a product with nine samples.

    Zero padding makes the front's bias appear only where a column and a row exist, hence the three
    features that say which columns lie inside, and one matrix for each number of rows so far.
    """

    def __init__(self, layer: _FlowLayer, weights: FlowWeights) -> None:
        front = weights.front_weight.double(), weights.front_bias.double()
        by_weight, by_bias = (f @ layer.shared.taps.double() for f in front)  # (3, 3, 2C)
        self.matrices = []
        for n_rows in (1, 2, 3):
            features = torch.cat([by_weight.flatten(0, 1), by_bias[-n_rows:].sum(dim=0)])
            features[10] += layer.bias.double()  # the middle column always lies inside
            self.matrices.append(features.to(weights.dtype))
        self.front = torch.zeros(_FEATURES, weights.channels, dtype=weights.dtype)
        self.front[7] = weights.front_weight
        self.front[10] = weights.front_bias
        if layer.res_bias is not None:
            self.front[10] += layer.res_bias


class _Flow:
    """One flow: its layers, and which rows it visits."""

    def __init__(self, weights: FlowWeights, shared: dict[int, _SharedLayer]) -> None:
        self.layers = []
        for i, w in enumerate(weights.layers):
            if id(w.conv) not in shared:
                assert w.cond is not None
                shared[id(w.conv)] = _SharedLayer(w.conv, w.cond, weights.scale**i)
            self.layers.append(_FlowLayer(shared[id(w.conv)], weights, i))
        self.opener = _Opener(self.layers[0], weights)
        self.out_bias = weights.out_bias.to(weights.dtype)
        self.visits = weights.visits
        # The network's input rows: the visited row before each, or None for a row of zeros.
        before = weights.order[: len(self.visits)] if weights.passthrough else weights.order[:-1]
        self.inputs = list(before) if weights.passthrough else [None, *before]


@dataclass(frozen=True)
class _Window:
    """The columns [lo, hi) of one row.

    Args:
        row: of the network, counted from 0.
        step: the row among those of all flows.
        lo: first column.
        hi: one past the last.
        origin: column at which the queues of this tile and flow start.
    """

    row: int
    step: int
    lo: int
    hi: int
    origin: int


class _Queue:
    """The transformed rows that a layer's convolution still reaches.

    Rows d_h apart make up one ring, in which the height dilation is 1. A ring keeps its rows side
    by side, so that the product over three rows is one: (tiles × 3C) @ (3C × 2C). Each new row
    takes the slot of the oldest.

    Args:
        filtering: of the row.
        dilation: along rows and along columns.
        width: columns that it has room for.
        like: a tensor (B, ..., C) of the type wanted.
    """

    def __init__(
        self, filtering: Filtering, dilation: tuple[int, int], width: int, like: Tensor
    ) -> None:
        self.filtering = filtering
        self.d_h, self.d_w = dilation
        if filtering is MIDDLE:
            self.d_w = width  # no neighbours, so that any dilation is the same
        self.block = filtering.m * self.d_w
        B, C = like.shape[0], like.shape[-1]
        size = (filtering.n_products, B, -(-width // self.block), self.d_w, _ROWS, C)
        self.rings = [like.new_empty(size) for _ in range(self.d_h)]

    def kind(self, row: int) -> int:
        """Return the first row that finds its queue as this one does: they come in cycles."""
        start, cycle = 2 * self.d_h, _ROWS * self.d_h
        return row if row < start else start + (row - start) % cycle

    def bind_push(
        self, row: int, h: Tensor, column: int, blocks: range, scratch: Tensor
    ) -> Callable[[], object]:
        """Return what adds columns of one of the network's rows, which come in turn.

        Args:
            row: counted from 0; the rows above are zero.
            h: (B, columns, C), with the neighbours that the filter reaches on both sides.
            column: of h, at which the blocks start.
            blocks: of the queue, that the columns become.
            scratch: see `Filtering.bind`.
        """
        ring = self.rings[row % self.d_h][:, :, blocks.start : blocks.stop]
        B, C = h.shape[0], h.shape[2]
        halo = 0 if self.filtering is MIDDLE else self.d_w
        inputs = h.as_strided(
            (self.filtering.n_products, B, len(blocks), self.d_w, C),
            (self.d_w * C, h.stride(0), self.block * C, C, 1),
            (column - halo) * C,
        )
        out = ring[..., row // self.d_h % _ROWS, :]
        return self.filtering.bind(inputs, out, scratch)

    def window(self, row: int, blocks: range) -> tuple[Tensor, slice]:
        """Return the rows that reach `row`: (P, B · blocks · d, rows · C), and their taps.

        They come as they lie: in the slots 0, 1, 2 are the taps 0, 1, 2, or 2, 0, 1, or 1, 2, 0,
        each of which is a part of 0, 1, 2, 0, 1.
        """
        ring = self.rings[row % self.d_h]
        position = row // self.d_h
        n_rows = min(position + 1, _ROWS)
        P, B, n_blocks, d, _, C = ring.shape
        assert B == 1 or len(blocks) == n_blocks  # items and blocks are one axis
        rows = ring.as_strided(
            (P, B * len(blocks) * d, n_rows * C),
            (ring.stride(0), _ROWS * C, 1),
            blocks.start * ring.stride(2),
        )
        first = _ROWS - 1 - position % _ROWS
        return rows, slice(first, first + n_rows)


class _Workspace:
    """Buffers that every layer's step overwrites.

    Args:
        n_products: of all tiles of a row, or what a transform needs, whichever is more.
        n_columns: of all items.
        like: a tensor (..., C) of the type wanted.
    """

    def __init__(self, n_products: int, n_columns: int, like: Tensor) -> None:
        C = like.shape[-1]
        self.channels = C
        self.products = like.new_empty(n_products * 2 * C)
        self.cond = like.new_empty(n_columns * 2 * C)
        self._a = like.new_empty(n_columns * 2 * C)
        self._gated = like.new_empty(n_columns * C)
        self._mixed = like.new_empty(n_columns * (C + 2))

    def gate(self, n: int) -> tuple[Tensor, Callable[[], Tensor]]:
        """Return the pre-activations a (n, 2C) to be filled, and what then gates them.

        It returns −tanh(a[..C] / 2) · σ(a[C..]) = σ(b) − 2 σ(a) σ(b) as (n, C), and overwrites a.
        """
        C = self.channels
        a = self._a[: n * 2 * C].view(n, 2 * C)
        gated = self._gated[: n * C].view(n, C)
        tanh, sigmoid = a.chunk(2, dim=1)

        def run() -> Tensor:
            torch.sigmoid(a, out=a)
            return torch.addcmul(sigmoid, tanh, sigmoid, value=-2, out=gated)

        return a, run

    def mixed(self, n: int, width: int) -> Tensor:
        """Return room for (n, width), a gated row times a layer's `mix`."""
        return self._mixed[: n * width].view(n, width)


class _LayerStep:
    """A layer's step on the rows of one kind: its views of the buffers, for every flow.

    Args:
        queue: of the layer.
        window: of the row.
        left: columns to the left of the window that go into the queue as well.
        n: columns of the window that the layer computes.
        h: see `_Inversion`, as are the others.
        margin: column of h at which the window starts.
        params: (log_s, t).
        workspace: to compute in.
        last: the layer has no residual.
    """

    def __init__(
        self,
        queue: _Queue,
        window: _Window,
        left: int,
        n: int,
        h: Tensor,
        margin: int,
        params: Tensor,
        workspace: _Workspace,
        last: bool,
    ) -> None:
        B, _, C = h.shape
        filtering, d = queue.filtering, queue.d_w
        m, P = filtering.m, filtering.n_products
        n_blocks, first = -(-n // queue.block), (window.lo - window.origin) // queue.block
        n_tiles, columns = B * n_blocks * d, n_blocks * queue.block
        self.shape = (n_blocks, m, d)
        self.push = queue.bind_push(
            window.row,
            h,
            margin - left,
            range(first - left // queue.block, first + n_blocks),
            workspace.products,
        )
        self.filtering = filtering
        self.rows, self.taps = queue.window(window.row, range(first, first + n_blocks))
        self.products = workspace.products[: P * n_tiles * 2 * C].view(P, n_tiles, 2 * C)
        self.biased = self.products[filtering.ones]
        self.flat_products = self.products.view(P, n_tiles * 2 * C)
        self.outputs = filtering.output_matrix(h)
        a, self.gate = workspace.gate(m * n_tiles)
        self.a = a.view(m, n_tiles * 2 * C)
        width = 2 if last else C + 2
        self.mixed = workspace.mixed(m * n_tiles, width)
        in_order = self.mixed.view(m, B, n_blocks, d, width).permute(1, 2, 0, 3, 4)
        self.to_params = in_order[..., -2:]
        self.params = params[:, :columns].unflatten(1, self.shape)
        self.to_h = in_order[..., :C]
        self.h = h[:, margin : margin + columns]
        self.h_tiles = self.h.unflatten(1, self.shape)

    def __call__(self, layer: _FlowLayer, cond: Tensor) -> None:
        """Add the layer's outputs to h and to the parameters.

        Args:
            layer: of the flow.
            cond: its projected conditioning (m, tiles · 2C).
        """
        factors = layer.shared.factors(self.filtering, self.taps)
        torch.bmm(self.rows, factors, out=self.products)
        self.biased.add_(layer.bias)
        torch.addmm(cond, self.outputs, self.flat_products, out=self.a)
        torch.mm(self.gate(), layer.mix, out=self.mixed)
        self.params.add_(self.to_params)
        if layer.res_bias is not None:
            self.h_tiles.add_(self.to_h)
            self.h.add_(layer.res_bias)


class _Conditioning:
    """The conditioning of a span of columns: the mel, projected row by row in a filter's order.

    Args:
        mel: see `RowInverter`.
        n_columns: that it has room for.
        n_further: columns of a zero mel that may be asked for beyond the span.
        size: items B, rows H and mel bands M.
        like: a tensor of the type wanted.
    """

    def __init__(
        self, mel: Mel, n_columns: int, n_further: int, size: tuple[int, int, int], like: Tensor
    ) -> None:
        B, H, M = size
        self.mel = mel
        self.start = self.stop = 0
        self.n_further = n_further
        self.rows = like.new_zeros(B, H, n_columns + n_further, M)
        self._row = like.new_empty(B * (n_columns + n_further) * M)

    def fill(self, start: int, stop: int) -> None:
        """Take in the columns [start, stop), unless they are there, upsampled part by part."""
        if (start, stop) == (self.start, self.stop):
            return  # all columns at once: the same for every flow
        self.start, self.stop = start, stop
        step = max(1, _UPSAMPLED // self.rows.shape[1])
        for lo in range(start, stop, step):
            hi = min(lo + step, stop)
            self.rows[:, :, lo - start : hi - start] = self.mel(lo, hi)
        self.rows[:, :, stop - start :][:, :, : self.n_further] = 0

    def project(
        self, shared: _SharedLayer, visit: int, lo: int, shape: Sequence[int], out: Tensor
    ) -> Tensor:
        """Return (m, B · blocks · d · 2C) for natural row `visit` from column `lo` on.

        Args:
            shared: the layer.
            visit: the row.
            lo: the first column.
            shape: blocks, m and d.
            out: one-dimensional, what the result is a part of.
        """
        n_columns, m = math.prod(shape), shape[1]
        row = self.rows[:, visit, lo - self.start :][:, :n_columns]
        in_order = row.unflatten(1, shape).permute(2, 0, 1, 3, 4)
        inputs = self._row[: row.numel()].view(in_order.shape).copy_(in_order).flatten(0, 3)
        outputs = out[: len(inputs) * shared.cond.shape[1]].view(len(inputs), -1)
        return torch.mm(inputs, shared.cond, out=outputs).view(m, -1)


class _Inversion:
    """One call: its state, and the loops over tiles, flows, rows and layers."""

    def __init__(
        self,
        inverter: RowInverter,
        x: Tensor,
        mel: Mel,
        lengths: Sequence[int] | None,
        tiles: Tiles,
        project_once: bool,
    ) -> None:
        B, _, W = x.shape
        C, dilations, lag = inverter.channels, inverter.dilations, tiles.lag
        self.inverter = inverter
        self.tiles = tiles
        self.x = x  # starts as z; each row of a flow replaces its own z
        self.beyond: Tensor | None = None
        if lengths is not None:
            self.beyond = torch.arange(W) >= torch.tensor(lengths)[:, None]
            self.x.masked_fill_(self.beyond[:, None], 0)
        # Columns of a layer's input to the left of a window that later rows still need.
        self.keep = [2 * d_h * lag for d_h, _ in dilations]
        widest = max(d for _, d in dilations)
        self.margin = max(self.keep) + widest
        # One row of the layers' inputs, from `margin` columns left of the window on.
        self.h = x.new_zeros(B, self.margin + min(tiles.tile + lag, W) + 5 * widest, C)
        # In a flow, the windows of a tile move left by the lag with each row; all fit in here.
        span = tiles.tile + lag * (inverter.n_rows + 1) + max(self.keep)
        self.queues = [
            _Queue(_filtering(dilation[1], W, lag), dilation, span, self.h)
            for dilation in dilations[1:]
        ]
        n_columns = self.h.shape[1] - self.margin
        share = max([q.filtering.n_products / q.filtering.m for q in self.queues], default=0.0)
        self.workspace = _Workspace(
            B * math.ceil(share * (n_columns + max(self.keep))), B * n_columns, self.h
        )
        self.params = x.new_zeros(B, n_columns, 2)  # (log_s, t)
        self.steps: dict[tuple[int, ...], _LayerStep] = {}
        # What a tile leaves for the next one: the end of each layer's input at each step.
        self.strips: dict[tuple[int, int], Tensor] = {}
        size = (B, inverter.n_height, inverter.n_bands)
        cond = _Conditioning(mel, min(span, W), 4 * widest, size, self.h)
        self.cond: _Conditioning | list[list[Tensor]] = cond
        if lag == 0 and project_once and inverter.shares_estimator:
            self.cond = self._project_all(cond)

    def run(self) -> None:
        """Turn z into x."""
        for tile in range(self.tiles.n_tiles):
            for index, flow in enumerate(self.inverter.flows):
                self._run_flow(flow, tile, index * self.inverter.n_rows)

    def _run_flow(self, flow: _Flow, tile: int, first_step: int) -> None:
        """Do the windows of one tile in one flow."""
        steps = range(first_step, first_step + self.inverter.n_rows)
        windows = [self.tiles.window(tile, step) for step in steps]
        start, stop = windows[-1][0], self._ends(windows[0][1])[0]
        if start >= stop:
            return
        origin = self.tiles.start(tile, steps[-1]) - max(self.keep)
        if isinstance(self.cond, _Conditioning):
            self.cond.fill(start, stop)
        for row, (step, (lo, hi)) in enumerate(zip(steps, windows, strict=True)):
            if hi > 0:
                self._run_row(flow, _Window(row, step, lo, hi, origin))

    def _run_row(self, flow: _Flow, window: _Window) -> None:
        """Invert the columns of a window."""
        B, _, C = self.h.shape
        row, lo = window.row, window.lo
        if lo >= self.tiles.width:  # nothing is left of this row, but later ones look back at it
            self._cut(0)
            for index in range(1, len(flow.layers)):
                self._push(index, window, 0)
            return
        visit, ends = flow.visits[row], self._ends(window.hi)

        def conditioning(index: int, *shape: int) -> Tensor:
            if not isinstance(self.cond, _Conditioning):
                return self.cond[index][visit]
            shared = flow.layers[index].shared
            return self.cond.project(shared, visit, lo, shape, self.workspace.cond)

        n = ends[0] - lo
        features = self._features(flow, row, lo, n)
        a, gate = self.workspace.gate(B * n)
        torch.addmm(
            conditioning(0, 1, 1, n).view(B * n, 2 * C),
            features.flatten(0, 1),
            flow.opener.matrices[min(row, 2)],
            out=a,
        )
        mix = flow.layers[0].mix
        mixed = torch.mm(gate(), mix, out=self.workspace.mixed(B * n, mix.shape[1]))
        mixed = mixed.unflatten(0, (B, n))
        torch.add(mixed[..., -2:], flow.out_bias, out=self.params[:, :n])
        if self.queues:
            h = self.h[:, self.margin : self.margin + n]
            torch.baddbmm(mixed[..., :C], features, flow.opener.front.expand(B, -1, -1), out=h)
            self._cut(n)
        for index, layer in enumerate(flow.layers[1:], 1):
            step = self._push(index, window, ends[index] - lo)
            step(layer, conditioning(index, *step.shape))
            self._cut(ends[index] - lo)
        log_s, t = self.params[:, : ends[-1] - lo].unbind(-1)
        x = self.x[:, visit, lo : ends[-1]]
        x.sub_(t).mul_(log_s.neg_().exp_())
        if self.beyond is not None:
            x.masked_fill_(self.beyond, 0)

    def _push(self, index: int, window: _Window, n: int) -> _LayerStep:
        """Add a layer's input to its queue; return the step that computes n columns of the window.

        In tiles, the row's strip goes along: what later rows, whose windows start further left,
        need of it. It comes from the tile before, and the next tile gets its own.
        """
        keep = self.keep[index]
        if self.tiles.lag:
            length = keep + self.inverter.dilations[index][1]
            strip = self.strips.pop((window.step, index), None)
            self.h[:, self.margin - length : self.margin] = 0 if strip is None else strip
            stop = self.margin + window.hi - window.lo
            self.strips[window.step, index] = self.h[:, stop - length : stop].clone()
        step = self._step(index, window, min(keep, window.lo), n)
        step.push()
        return step

    def _step(self, index: int, window: _Window, left: int, n: int) -> _LayerStep:
        """Return a layer's step, made at the first row of its kind."""
        queue = self.queues[index - 1]
        key = (index, queue.kind(window.row), window.lo - window.origin, left, n)
        if key not in self.steps:
            if len(self.steps) == self.inverter.most_bound:
                self.steps.clear()
            self.steps[key] = _LayerStep(
                queue,
                window,
                left,
                n,
                self.h,
                self.margin,
                self.params,
                self.workspace,
                last=index == len(self.queues),
            )
        return self.steps[key]

    def _ends(self, hi: int) -> list[int]:
        """Return where each layer's output must end for a window that ends at `hi`."""
        ends = [min(hi, self.tiles.width)]
        for _, d in reversed(self.inverter.dilations[1:]):
            ends.append(min(ends[-1] + d, self.tiles.width))
        return ends[::-1]

    def _features(self, flow: _Flow, row: int, lo: int, n: int) -> Tensor:
        """Return layer 0's features (B, n, 12): the samples of three rows, and what is inside."""
        B = len(self.x)
        taken = self.x.new_zeros(B, 4, n + 2)
        first, last = max(lo - 1, 0), min(lo + n + 1, self.tiles.width)
        present = taken[..., first - lo + 1 : last - lo + 1]
        for slot, position in enumerate(range(row - 2, row + 1)):
            visit = flow.inputs[position] if position >= 0 else None
            if visit is not None:
                present[:, slot] = self.x[:, visit, first:last]
        present[:, 3] = 1
        if self.beyond is not None:
            present[:, 3].masked_fill_(self.beyond[:, first:last], 0)
        return taken.unfold(2, 3, 1).permute(0, 2, 1, 3).reshape(B, n, _FEATURES)

    def _cut(self, n: int) -> None:
        """Leave n columns of the window in h; what follows, or lies beyond an item, is zero."""
        self.h[:, self.margin + n :] = 0
        if self.beyond is not None:
            h = self.h[:, self.margin : self.margin + n]
            h.masked_fill_(self.beyond[..., None], 0)

    def _project_all(self, cond: _Conditioning) -> list[list[Tensor]]:
        """Return each layer's projected conditioning of every natural row."""
        W = self.tiles.width
        cond.fill(0, W)
        shapes = [(1, 1, W)]
        for queue in self.queues:
            shapes.append((-(-W // queue.block), queue.filtering.m, queue.d_w))
        n_pre = len(self.x) * 2 * self.inverter.channels
        return [
            [
                cond.project(
                    layer.shared, row, 0, shape, self.h.new_empty(n_pre * math.prod(shape))
                )
                for row in range(self.inverter.n_height)
            ]
            for layer, shape in zip(self.inverter.flows[0].layers, shapes, strict=True)
        ]


def _filtering(dilation: int, width: int, lag: int) -> Filtering:
    """Return the filtering of a layer; in tiles, one whose blocks divide the lag."""
    if lag == 0:
        return choose_filtering(width, dilation)
    return F4 if lag % (F4.m * dilation) == 0 else F2
