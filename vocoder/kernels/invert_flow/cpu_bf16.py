"""The row op in bfloat16 on a CPU that multiplies in it: one convolution for each row of a layer.

As `cpu`, with the same loops, tiles and folded weights, but without Winograd, whose transforms cost
more than cheap products are worth. Operands are bfloat16; sums, the residual stream between layers,
the affine transform and the samples that layer 0 sees are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.kernels.invert_flow import cpu_bf16_passes as passes
from vocoder.kernels.invert_flow.cpu import CpuInverter, Inversion, Mel
from vocoder.kernels.invert_flow.cpu_plan import Plan
from vocoder.kernels.invert_flow.cpu_step import ROWS, LayerStep, Queue, Window, Workspace
from vocoder.kernels.invert_flow.cpu_weights import Flow, FlowLayer, SharedLayer
from vocoder.kernels.invert_flow.op import FlowWeights, cast_flows

NARROW = torch.bfloat16


class NarrowInverter(CpuInverter):
    """The inverse of symmetric flows with operands in bfloat16; see `CpuInverter`.

    Args:
        flows: The flows in forward order, all of one size.
        memory: The bytes to plan with: a little more than it takes, as in float32.
    """

    def __init__(self, flows: Sequence[FlowWeights], memory: int | None = None) -> None:
        super().__init__(cast_flows(flows, torch.float32), memory)
        shared: dict[int, _SharedLayer] = {}
        for flow in self.flows:
            flow.layers = [_FlowLayer(layer, shared) for layer in flow.layers]

    def start(self, z: Tensor, mel: Mel, lengths: Sequence[int] | None, plan: Plan) -> Inversion:
        """Return what turns the noise of a few items into data when it is run."""
        return _Inversion(self, z, mel, lengths, plan)


class _SharedLayer(SharedLayer):
    """What the flows that share a layer have in common.

    Attributes:
        kernels: the taps as convolutions (2C, 3 rows · C, 1, 3), channels last, one for each slot
            that the newest row may be in.
    """

    def __init__(self, layer: SharedLayer) -> None:
        self.cond = layer.cond.to(NARROW)
        self.kernels = []
        for newest in range(ROWS):
            # Slot s of a ring holds the row of tap 2 − (newest − s) mod 3.
            order = [ROWS - 1 - (newest - slot) % ROWS for slot in range(ROWS)]
            taps = layer.taps[order].permute(3, 1, 0, 2).flatten(2)  # (2C, 3 columns, 3 rows · C)
            kernel = taps.to(NARROW).contiguous().unsqueeze(1)
            self.kernels.append(kernel.permute(0, 3, 1, 2))


class _FlowLayer(FlowLayer):
    """A layer in one flow.

    Attributes:
        res: the residual's matrix (C, C), or None in the last layer.
        out: the projection (2, C), float32.
    """

    def __init__(self, layer: FlowLayer, shared: dict[int, _SharedLayer]) -> None:
        if id(layer.shared) not in shared:
            shared[id(layer.shared)] = _SharedLayer(layer.shared)
        self.shared = self.narrow = shared[id(layer.shared)]
        self.bias, self.res_bias, self.mix = layer.bias, layer.res_bias, layer.mix
        self.out = -layer.mix[:, -2:].t().contiguous()
        self.res = None if layer.res_bias is None else -layer.mix[:, :-2].to(NARROW)


class _Queue(Queue):
    """The rows that a layer's convolution still reaches, side by side in each column.

    Args:
        dilation: along rows and along columns.
        width: columns that it has room for.
        like: a tensor (B, ..., C), of any type.
    """

    def __init__(self, dilation: tuple[int, int], width: int, like: Tensor) -> None:
        self.d_h, self.d_w = dilation
        size = (len(like), width + 2 * self.d_w, ROWS, like.shape[-1])
        self.rings = [like.new_zeros(size, dtype=NARROW) for _ in range(self.d_h)]

    def kind(self, row: int) -> int:
        """Return the first row that finds its queue as this one does."""
        return row

    def tiles(self, n_columns: int) -> tuple[int, int, int]:
        """Return the shape in which columns come in order."""
        return 1, 1, n_columns


class _Workspace(Workspace):
    """Buffers that every layer's step overwrites."""

    def __init__(self, n_columns: int, like: Tensor) -> None:
        C = like.shape[-1]
        self.cond = like.new_empty(n_columns * 2 * C, dtype=NARROW)
        self._o = like.new_empty(n_columns * C, dtype=NARROW)
        self._y = like.new_empty(n_columns * 2)

    def gated(
        self, a: Tensor, cond: Tensor, bias: Tensor, layer: _FlowLayer
    ) -> tuple[Tensor, Tensor]:
        """Return the gated features (n, C) of pre-activations (…, 2C), and y (n, 2)."""
        C = a.shape[-1] // 2
        n = a.numel() // (2 * C)
        o, y = self._o[: n * C].view(n, C), self._y[: 2 * n].view(n, 2)
        passes.gate(a, cond, bias, layer.out, o, y)
        return o, y


class _LayerStep(LayerStep):
    """A layer's step on the rows of one kind; see `cpu_step.LayerStep`."""

    def __init__(
        self, inversion: _Inversion, index: int, window: Window, left: int, n: int
    ) -> None:
        queue = inversion.queues[index - 1]
        self.inversion, self.left, self.n = inversion, left, n
        self.shape = queue.tiles(n)
        self.d_w = queue.d_w
        self.position = window.row // queue.d_h
        self.slot = self.position % ROWS
        self.ring = queue.rings[window.row % queue.d_h]
        self.column = window.lo - window.origin
        rows = self.ring[:, self.column : self.column + n + 2 * self.d_w]
        self.image = rows.flatten(2).unsqueeze(1).permute(0, 3, 1, 2)

    def push(self) -> None:
        """Take the layer's input, which lies in h."""
        if self.position == 0:
            self.ring.zero_()  # nothing lies above the first row
        whole, d = self.inversion, self.d_w
        first = whole.margin - self.left - d
        n = self.n + self.left + 2 * d
        passes.push(whole.h, first, n, self.ring, self.column - self.left, self.slot)

    def __call__(self, layer: FlowLayer, cond: Tensor) -> None:
        """Add the layer's outputs to h and to the parameters."""
        assert isinstance(layer, _FlowLayer)
        whole, B = self.inversion, len(self.ring)
        kernel = layer.narrow.kernels[self.slot]
        a = F.conv2d(self.image, kernel, dilation=(1, self.d_w)).permute(0, 2, 3, 1)
        o, y = whole.narrow.gated(a, cond, layer.bias, layer)
        whole.params[:, : self.n].add_(y.view(B, self.n, 2))
        if layer.res is not None and layer.res_bias is not None:
            r = (o @ layer.res).view(B, self.n, -1)
            passes.join(whole.h, whole.margin, r, layer.res_bias)


class _Inversion(Inversion):
    """One call in bfloat16; see `cpu.Inversion`."""

    def _make_room(self, span: int, n_columns: int) -> None:
        self.queues = [_Queue(dilation, span, self.h) for dilation in self.sizes.dilations[1:]]
        self.workspace = self.narrow = _Workspace(len(self.x) * n_columns, self.h)

    def _open(self, flow: Flow, row: int, features: Tensor, cond: Tensor) -> None:
        layer = flow.layers[0]
        assert isinstance(layer, _FlowLayer)
        B, n, _ = features.shape
        a = (features @ flow.opener.matrices[min(row, 2)]).to(NARROW)
        no_bias = torch.zeros_like(layer.bias)  # it is in the matrix
        o, y = self.narrow.gated(a, cond, no_bias, layer)
        torch.add(y.view(B, n, 2), flow.out_bias, out=self.params[:, :n])
        if layer.res is not None:
            h = self.h[:, self.margin : self.margin + n]
            torch.bmm(features, flow.opener.front.expand(B, -1, -1), out=h)
            r = (o @ layer.res).view(B, n, -1)
            passes.join(self.h, self.margin, r, torch.zeros_like(layer.bias[: r.shape[2]]))

    def _bind(self, index: int, window: Window, left: int, n: int) -> _LayerStep:
        return _LayerStep(self, index, window, left, n)
