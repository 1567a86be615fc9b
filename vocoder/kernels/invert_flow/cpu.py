"""The row op on a CPU: matrix products over channels-last rows, with Winograd's F(4, 3).

What it saves over the plain layer is exact algebra: half of the products of the dilated
convolution (`winograd`), the skip path (folded into the projection), layer 0 (one product with
nine samples), the last residual, the rows above the first, and every factor and bias that fits
into a matrix. tanh(a) is taken as 2 σ(2a) − 1, since torch's σ is three times as fast as its tanh.

The matrices are packed in `cpu_weights`, a layer's step on a row is that of
`cpu_step`, and here are the loops over tiles, flows, rows and layers around it.
Nothing is flipped or copied for the order of rows, and the model is only read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vocoder.kernels.invert_flow.cpu_plan import UPSAMPLED, Plan, Sizes, filtering, plan_inversion
from vocoder.kernels.invert_flow.cpu_step import LayerStep, Queue, Window, Workspace
from vocoder.kernels.invert_flow.cpu_weights import FEATURES, Flow, SharedLayer
from vocoder.kernels.invert_flow.op import FlowWeights, Source

# Gives columns [lo, hi) of the upsampled mel, rows in natural order: (B, H, hi − lo, M).
Mel = Callable[[int, int], Tensor]


class CpuInverter:
    """The inverse of symmetric flows on a CPU, packed once and then used for every utterance.

    Args:
        flows: The flows in forward order, all of one size; the tensors that they share are packed
            once.
        memory: The bytes to plan with, beside z, the weights and the mels; None is as many as the
            fastest plan takes.
    """

    def __init__(self, flows: Sequence[FlowWeights], memory: int | None = None) -> None:
        shared: dict[int, SharedLayer] = {}
        self.flows = [Flow(weights, shared) for weights in reversed(flows)]
        self.memory = memory
        self.sizes = Sizes(
            channels=flows[0].channels,
            dilations=flows[0].dilations,
            itemsize=flows[0].dtype.itemsize,
            n_height=len(flows[0].order),
            n_rows=len(flows[0].visits),
            n_flows=len(flows),
            n_bands=self.flows[0].layers[0].shared.cond.shape[0],
            shares_estimator=len(shared) < len(flows) * len(flows[0].layers),
        )

    def invert_in_place(self, z: Tensor, cond: Source, lengths: Tensor | None = None) -> None:
        """Map noise to data through all flows; see `Inverter`.

        Raises:
            VocoderError: not even the slowest plan keeps to the memory.
        """
        n_items, _, width = z.shape
        plan = plan_inversion(self.sizes, n_items, width, self.memory)
        if lengths is not None and plan.n_items == 1:
            for i, n in enumerate(lengths.tolist()):
                z[i, :, n:] = 0
                item = slice(i, i + 1)
                self.run(z[item, :, :n], cond, item, None, self._plan_one(n))
            return
        for start in range(0, n_items, plan.n_items):
            items = slice(start, min(start + plan.n_items, n_items))
            own = None if lengths is None else lengths[items].tolist()
            self.run(z[items], cond, items, own, plan)

    def _plan_one(self, width: int) -> Plan:
        return plan_inversion(self.sizes, 1, width, self.memory)

    @torch.no_grad()
    def run(
        self,
        z: Tensor,
        cond: Source,
        items: slice,
        lengths: Sequence[int] | None,
        plan: Plan,
    ) -> None:
        """Map the noise of a few items to data by one plan.

        Args:
            z: (n, H, W), of the weights' type and any strides, rows in natural order; becomes x.
            cond: Gives the mels that the layers are conditioned on.
            items: Which items of `cond` these are.
            lengths: Columns of each item; only without tiles.
            plan: Which columns to do at a time, and what to keep for all flows.
        """
        assert plan.tiles.lag == 0 or (lengths is None and len(z) == 1)

        def mel(lo: int, hi: int) -> Tensor:
            given = cond(items, lo, hi)
            assert isinstance(given, Tensor)
            return given

        self.start(z, mel, lengths, plan).run()

    def start(self, z: Tensor, mel: Mel, lengths: Sequence[int] | None, plan: Plan) -> Inversion:
        """Return what turns the noise of a few items into data when it is run; see `run`."""
        return Inversion(self, z, mel, lengths, plan)


class _Conditioning:
    """The conditioning of a span of columns: the mel, projected row by row in a filter's order.

    Args:
        mel: gives its columns.
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
        step = max(1, UPSAMPLED // self.rows.shape[1])
        for lo in range(start, stop, step):
            hi = min(lo + step, stop)
            self.rows[:, :, lo - start : hi - start] = self.mel(lo, hi)
        self.rows[:, :, stop - start :][:, :, : self.n_further] = 0

    def project(
        self, shared: SharedLayer, visit: int, lo: int, shape: Sequence[int], out: Tensor
    ) -> Tensor:
        """Return (m, B · blocks · d · 2C) for natural row `visit` from column `lo` on.

        Args:
            shared: Weights of the layer.
            visit: Natural row to project.
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


class Inversion:
    """One call: its state, and the loops over tiles, flows, rows and layers."""

    def __init__(
        self,
        inverter: CpuInverter,
        x: Tensor,
        mel: Mel,
        lengths: Sequence[int] | None,
        plan: Plan,
    ) -> None:
        B, _, W = x.shape
        tiles = plan.tiles
        sizes, lag = inverter.sizes, tiles.lag
        C, dilations = sizes.channels, sizes.dilations
        self.flows, self.sizes = inverter.flows, sizes
        self.tiles = tiles
        self.x = x  # starts as z; each row of a flow replaces its own z
        self.beyond: Tensor | None = None
        if lengths is not None:
            self.beyond = (
                torch.arange(W, device=x.device) >= torch.tensor(lengths, device=x.device)[:, None]
            )
            self.x.masked_fill_(self.beyond[:, None], 0)
        # Columns of a layer's input to the left of a window that later rows still need.
        self.keep = [2 * d_h * lag for d_h, _ in dilations]
        widest = max(d for _, d in dilations)
        self.margin = max(self.keep) + widest
        # One row of the layers' inputs, from `margin` columns left of the window on.
        self.h = x.new_zeros(B, self.margin + min(tiles.tile + lag, W) + 5 * widest, C)
        # In a flow, the windows of a tile move left by the lag with each row; all fit in here.
        span = tiles.tile + lag * (sizes.n_rows + 1) + max(self.keep)
        n_columns = self.h.shape[1] - self.margin
        self.steps: dict[tuple[int, ...], LayerStep] = {}
        self._make_room(span, n_columns)
        self.params = x.new_zeros(B, n_columns, 2)  # (log_s, t)
        # What a tile leaves for the next one: the end of each layer's input at each step.
        self.strips: dict[tuple[int, int], Tensor] = {}
        size = (B, sizes.n_height, sizes.n_bands)
        cond = _Conditioning(mel, min(span, W), 4 * widest, size, self.workspace.cond)
        self.cond: _Conditioning | list[list[Tensor]] = cond
        if lag == 0 and plan.project_once and sizes.shares_estimator:
            self.cond = self._project_all(cond)

    def _make_room(self, span: int, n_columns: int) -> None:
        """Make the queues, of `span` columns, and room for the `n_columns` of a row."""
        B, W, lag = len(self.x), self.tiles.width, self.tiles.lag
        self.queues = [
            Queue(filtering(dilation[1], W, lag), dilation, span, self.h)
            for dilation in self.sizes.dilations[1:]
        ]
        share = max([q.filtering.n_products / q.filtering.m for q in self.queues], default=0.0)
        self.workspace = Workspace(
            B * math.ceil(share * (n_columns + max(self.keep))), B * n_columns, self.h
        )

    def run(self) -> None:
        """Turn z into x."""
        for tile in range(self.tiles.n_tiles):
            for index, flow in enumerate(self.flows):
                self._run_flow(flow, tile, index * self.sizes.n_rows)

    def _run_flow(self, flow: Flow, tile: int, first_step: int) -> None:
        """Do the windows of one tile in one flow."""
        steps = range(first_step, first_step + self.sizes.n_rows)
        windows = [self.tiles.window(tile, step) for step in steps]
        start, stop = windows[-1][0], self._ends(windows[0][1])[0]
        if start >= stop:
            return
        origin = self.tiles.start(tile, steps[-1]) - max(self.keep)
        if isinstance(self.cond, _Conditioning):
            self.cond.fill(start, stop)
        for row, (step, (lo, hi)) in enumerate(zip(steps, windows, strict=True)):
            if hi > 0:
                self._run_row(flow, Window(row, step, lo, hi, origin))

    def _run_row(self, flow: Flow, window: Window) -> None:
        """Invert the columns of a window."""
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
        self._open(flow, row, features, conditioning(0, 1, 1, n))
        if self.queues:
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

    def _open(self, flow: Flow, row: int, features: Tensor, cond: Tensor) -> None:
        """Do layer 0 of a row: begin h and the parameters."""
        B, n, _ = features.shape
        C = self.h.shape[2]
        a, gate = self.workspace.gate(B * n)
        matrix, mix = flow.opener.matrices[min(row, 2)], flow.layers[0].mix
        torch.addmm(cond.view(B * n, 2 * C), features.flatten(0, 1), matrix, out=a)
        mixed = torch.mm(gate(), mix, out=self.workspace.mixed(B * n, mix.shape[1]))
        mixed = mixed.unflatten(0, (B, n))
        torch.add(mixed[..., -2:], flow.out_bias, out=self.params[:, :n])
        if self.queues:
            h = self.h[:, self.margin : self.margin + n]
            torch.baddbmm(mixed[..., :C], features, flow.opener.front.expand(B, -1, -1), out=h)

    def _push(self, index: int, window: Window, n: int) -> LayerStep:
        """Add a layer's input to its queue; return the step that computes n columns of the window.

        In tiles, the row's strip goes along: what later rows, whose windows start further left,
        need of it. It comes from the tile before, and the next tile gets its own.
        """
        keep = self.keep[index]
        if self.tiles.lag:
            length = keep + self.sizes.dilations[index][1]
            strip = self.strips.pop((window.step, index), None)
            self.h[:, self.margin - length : self.margin] = 0 if strip is None else strip
            stop = self.margin + window.hi - window.lo
            self.strips[window.step, index] = self.h[:, stop - length : stop].clone()
        step = self._step(index, window, min(keep, window.lo), n)
        step.push()
        return step

    def _step(self, index: int, window: Window, left: int, n: int) -> LayerStep:
        """Return a layer's step, made at the first row of its kind."""
        queue = self.queues[index - 1]
        key = (index, queue.kind(window.row), window.lo - window.origin, left, n)
        if key not in self.steps:
            if len(self.steps) == self.sizes.most_bound:
                self.steps.clear()
            self.steps[key] = self._bind(index, window, left, n)
        return self.steps[key]

    def _bind(self, index: int, window: Window, left: int, n: int) -> LayerStep:
        """Make a layer's step."""
        return LayerStep(
            self.queues[index - 1],
            window,
            left,
            n,
            self.h,
            self.margin,
            self.params,
            self.workspace,
            last=index == len(self.queues),
        )

    def _ends(self, hi: int) -> list[int]:
        """Return where each layer's output must end for a window that ends at `hi`."""
        ends = [min(hi, self.tiles.width)]
        for _, d in reversed(self.sizes.dilations[1:]):
            ends.append(min(ends[-1] + d, self.tiles.width))
        return ends[::-1]

    def _features(self, flow: Flow, row: int, lo: int, n: int) -> Tensor:
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
        return taken.unfold(2, 3, 1).permute(0, 2, 1, 3).reshape(B, n, FEATURES)

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
            shapes.append(queue.tiles(W))
        n_pre = len(self.x) * 2 * self.sizes.channels
        return [
            [
                cond.project(
                    layer.shared, row, 0, shape, cond.rows.new_empty(n_pre * math.prod(shape))
                )
                for row in range(self.sizes.n_height)
            ]
            for layer, shape in zip(self.flows[0].layers, shapes, strict=True)
        ]
