"""`invert_flow` for NVIDIA GPUs: which kernels, in which tiles, over which memory.

Seen so far: right in Triton's interpreter, and compiled for sm_80, sm_89 and sm_90.
Nothing here has run on a GPU yet.

Three folds make the work less than the network as written (`GatedConvWeights` has the skips folded
into the projection already):

- Layer 0 reads x · w + b, one channel: its nine taps are nine values and nine flags of being inside
  (zero padding makes the bias depend on the position), one product with K = 32.
- The last layer has no residual.
- Row r < 2 has 2 − r rows of zeros above it: their taps are left out.

A short clip gives few programs, so there the two rows above, six of nine taps, are computed beside
the layers of the row before, on a second stream: the chain of layers does the other three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from vocoder.kernels.gated_conv.op import GatedConvWeights
from vocoder.kernels.invert_flow.op import Conditioning, FlowWeights
from vocoder.kernels.invert_flow.triton_kernels import (
    AFFINE,
    COPY,
    ZERO,
    row_ahead,
    row_close,
    row_layer,
    row_layer_transposed,
    row_open,
)


@dataclass(frozen=True)
class Tile:
    """How a layer's row is cut, and into how many warps and pipeline stages.

    Args:
        layout: "columns", columns by channels with loads through pointers; "descriptors", the same
            with tiles that the card copies by itself; "transposed", channels by columns.
        n_columns: columns of one program.
        depth: input channels of one product.
        n_warps: warps of one program.
        n_stages: products whose operands are on their way.
        look_ahead: compute what the rows above give beside the row before ("transposed" alone).
    """

    layout: Literal["columns", "descriptors", "transposed"]
    n_columns: int
    depth: int
    n_warps: int
    n_stages: int
    look_ahead: bool = False


# A row of so many columns, all items together, is too short to fill a card with wide tiles ...
SHORT = 4_000
# ... and one of so many is long enough for the widest.
LONG = 40_000
OPENER = Tile("columns", n_columns=32, depth=32, n_warps=4, n_stages=2)
CLOSER = Tile("columns", n_columns=256, depth=1, n_warps=4, n_stages=1)


def choose_tile(capability: tuple[int, int], channels: int, n_columns: int) -> Tile:
    """Return the tile of a layer; a static table, since tuning while running breaks capture.

    Args:
        capability: of the card; what is neither 8.0 nor 9.0 gets the tiles that fit every card.
        channels: C, 64 or 128.
        n_columns: B · W.
    """
    narrow = channels == 64
    n_warps = 4 if narrow else 8
    # Shared memory holds the stages: 227 KB, 163 KB and 99 KB.
    depth = 64 if narrow or capability in ((8, 0), (9, 0)) else 32
    if n_columns < SHORT:
        n_stages = 4 if narrow and capability == (9, 0) else 3
        return Tile("transposed", 32, depth, n_warps, n_stages, look_ahead=True)
    if capability != (9, 0):
        return Tile("columns", 64, depth, n_warps, 3 if depth == 64 else 4)
    if narrow and n_columns > LONG:
        return Tile("descriptors", 256, depth, 8, 3)
    return Tile("descriptors", 128, depth, n_warps, 3)


class Inversion:
    """K flows, inverted one after the other over tensors that it is given once.

    A call launches kernels and does nothing else: it allocates nothing, reads nothing back and
    takes no decision by the data, so it can be captured in a CUDA graph.

    Args:
        flows: in the order of their inversion; all with the same channels, layers and rows.
        z: (B, H, W) float32, contiguous: the noise, rows in natural order; stays as it is.
        cond: see `invert_flow`; contiguous, and the same for all flows.
        lengths: (B,) int32, columns of each item.
        tile: of the layers; None is that of `choose_tile` for z's card.

    Attributes:
        x: (B, H, W) float32, what a call computes.
    """

    x: Tensor

    def __init__(
        self,
        flows: Sequence[FlowWeights],
        z: Tensor,
        cond: Conditioning,
        lengths: Tensor,
        tile: Tile | None = None,
    ) -> None:
        B, _, W = z.shape
        C, L = flows[0].channels, len(flows[0].layers)
        self.z, self.cond, self.lengths = z, cond, lengths
        if tile is None:
            tile = choose_tile(torch.cuda.get_device_capability(z.device), C, B * W)
        conds = [cond] * L if isinstance(cond, Tensor) else list(cond)
        rows = [torch.empty_like(z), torch.empty_like(z)]
        y = z.new_empty(2, B, 2, W)
        queues = [z.new_empty((B * 3, W, C), dtype=flows[0].dtype) for _ in range(1, L)]
        partials = [z.new_empty(B, W, 2 * C) if tile.look_ahead else None for _ in queues]
        beside = torch.cuda.Stream(z.device) if tile.look_ahead and z.is_cuda else None
        self._flows: list[tuple[_Opener, list[_Layer]]] = []
        following: list[Tensor | None] = [*queues, None]
        for flow in map(contiguous, flows):
            self.x = rows[len(self._flows) % 2]
            opener = _Opener(flow, z, self.x, y, lengths, conds[0], following[0])
            layers = [
                _Layer(
                    flow,
                    i,
                    queues[i - 1],
                    following[i],
                    partials[i - 1],
                    y,
                    lengths,
                    conds[i],
                    tile,
                    beside,
                )
                for i in range(1, L)
            ]
            self._flows.append((opener, layers))
            z = self.x

    @classmethod
    def allocate(
        cls,
        flows: Sequence[FlowWeights],
        n_items: int,
        n_columns: int,
        tile: Tile | None = None,
    ) -> Inversion:
        """Return an inversion over new tensors, to be filled by `fill`.

        `cond` is one mel for all layers where the flows have matrices for it, else one a layer.
        """
        first = flows[0]
        n_mels = _n_mels(first.layers[0])
        z = first.front_weight.new_empty((n_items, len(first.order), n_columns))
        shape = (*z.shape, n_mels or 2 * first.channels)
        conds = [
            first.layers[0].conv.new_empty(shape) for _ in range(1 if n_mels else len(first.layers))
        ]
        # Whole, so that nothing is read out of bounds before the first batch comes.
        lengths = torch.full((n_items,), n_columns, dtype=torch.int32, device=z.device)
        return cls(flows, z, conds[0] if n_mels else conds, lengths, tile)

    def fill(self, z: Tensor, cond: Conditioning, lengths: Tensor) -> None:
        """Copy the next batch in.

        Args:
            z: (B, H, w), of at most as many columns as there is room for.
            cond: (B, H, w, ...), as many tensors as there are.
            lengths: (B,), columns of each item; what lies beyond changes nothing.
        """
        w = z.shape[2]
        self.z[..., :w].copy_(z)
        ours, theirs = ([c] if isinstance(c, Tensor) else c for c in (self.cond, cond))
        for our, their in zip(ours, theirs, strict=True):
            our[:, :, :w].copy_(their)
        self.lengths.copy_(lengths)

    def __call__(self) -> None:
        """Compute x."""
        with torch.cuda.device_of(self.x):
            for opener, layers in self._flows:
                n_rows = len(opener.flow.visits)
                for layer in layers:
                    layer.look_ahead(0)
                for row in range(n_rows):
                    opener.run(row)
                    for layer in layers:
                        layer.run(row)
                        if row + 1 < n_rows:
                            layer.look_ahead(row + 1)
                opener.close()


class _Opener:
    """Makes a flow's rows of x and runs layer 0 on them.

    Args:
        flow: the flow.
        z: (B, H, W), what it maps.
        x: (B, H, W), to what.
        y: (2, B, 2, W), see `wavenet_row_kernels`.
        lengths: (B,) int32.
        cond: of layer 0.
        next_queue: layer 1's, or None.
    """

    def __init__(
        self,
        flow: FlowWeights,
        z: Tensor,
        x: Tensor,
        y: Tensor,
        lengths: Tensor,
        cond: Tensor,
        next_queue: Tensor | None,
    ) -> None:
        self.flow = flow
        self._z, self._x, self._y, self._lengths = z, x, y, lengths
        self._cond, self._next_queue = cond, next_queue
        self._taps = fold_front(flow)
        self._gate = gate_of(flow.layers[0])
        # Natural rows of the network's inputs; -1 is a row of zeros.
        self._inputs = flow.order if flow.passthrough else (-1, *flow.order)

    def run(self, row: int) -> None:
        """Launch the network's row `row`."""
        B, H, W = self._z.shape
        flow, inputs = self.flow, self._inputs
        w = flow.layers[0]
        row_open[(triton.cdiv(W, OPENER.n_columns), B)](
            self._z,
            self._x,
            self._y,
            self._lengths,
            self._cond,
            self._next_queue,
            self._taps,
            w.bias,
            w.cond,
            flow.front_weight,
            flow.front_bias,
            w.res,
            w.res_bias,
            self._gate,
            w.out,
            flow.out_bias,
            row,
            inputs[row],
            inputs[row - 1] if row >= 1 else -1,
            inputs[row - 2] if row >= 2 else -1,
            flow.visits[row],
            H,
            W,
            flow.dilations[0][1],
            flow.scale,
            C=flow.channels,
            N_MELS=_n_mels(w),
            N_PAST=min(row, 2),
            INPUT=self._input(row),
            LAST=self._next_queue is None,
            BLOCK_W=OPENER.n_columns,
            num_warps=OPENER.n_warps,
            num_stages=OPENER.n_stages,
        )

    def close(self) -> None:
        """Launch what stores the last row of x."""
        B, H, W = self._z.shape
        row = len(self.flow.visits)
        row_close[(triton.cdiv(W, CLOSER.n_columns), B)](
            self._z,
            self._x,
            self._y,
            self._lengths,
            row,
            self._inputs[row],
            H,
            W,
            INPUT=self._input(row),
            BLOCK_W=CLOSER.n_columns,
            num_warps=CLOSER.n_warps,
            num_stages=CLOSER.n_stages,
        )

    def _input(self, row: int) -> int:
        kind = AFFINE if row else COPY if self.flow.passthrough else ZERO
        return int(kind.value)


class _Layer:
    """Runs layer 1, 2, ... of a flow.

    Args:
        flow: the flow.
        index: of the layer.
        queue: its input rows.
        next_queue: those of the layer after it, or None.
        partial: (B, W, 2C), where what was looked ahead waits, or None.
        y: (2, B, 2, W), see `wavenet_row_kernels`.
        lengths: (B,) int32.
        cond: of the layer.
        tile: its tile.
        beside: the stream to look ahead on; None is the current one.
    """

    def __init__(
        self,
        flow: FlowWeights,
        index: int,
        queue: Tensor,
        next_queue: Tensor | None,
        partial: Tensor | None,
        y: Tensor,
        lengths: Tensor,
        cond: Tensor,
        tile: Tile,
        beside: torch.cuda.Stream | None,
    ) -> None:
        self._flow, self._tile, self._beside = flow, tile, beside
        self._weights, self._dilation = flow.layers[index], flow.dilations[index][1]
        self._queue, self._next_queue, self._partial = queue, next_queue, partial
        self._y, self._lengths, self._cond = y, lengths, cond
        self._gate = gate_of(self._weights)
        self._looked: torch.cuda.Event | None = None
        self._queue_tiles = self._conv_tiles = None
        if tile.layout == "descriptors":
            conv = self._weights.conv.flatten(0, 1)
            self._queue_tiles = TensorDescriptor.from_tensor(queue, [1, tile.n_columns, tile.depth])
            self._conv_tiles = TensorDescriptor.from_tensor(conv, [tile.depth, conv.shape[1]])

    def look_ahead(self, row: int) -> None:
        """Launch, beside what is launched next, what the rows above `row` give."""
        if self._partial is None:
            return
        if self._beside is None:
            self._launch_ahead(row)
            return
        self._beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._beside):
            self._launch_ahead(row)
            self._looked = self._beside.record_event()

    def _launch_ahead(self, row: int) -> None:
        _, H, W = self._cond.shape[:3]
        w = self._weights
        row_ahead[self._grid()](
            self._queue,
            self._partial,
            self._cond,
            w.conv,
            w.bias,
            w.cond,
            row,
            self._flow.visits[row],
            H,
            W,
            self._dilation,
            C=self._flow.channels,
            N_MELS=_n_mels(w),
            N_PAST=min(row, 2),
            **self._sizes(),
        )

    def run(self, row: int) -> None:
        """Launch the network's row `row`."""
        if self._looked is not None:
            torch.cuda.current_stream().wait_event(self._looked)
        _, H, W = self._cond.shape[:3]
        w = self._weights
        kernel, sources = row_layer, [self._queue, self._queue_tiles, w.conv, self._conv_tiles]
        if self._tile.layout == "transposed":
            kernel, sources = row_layer_transposed, [self._queue, self._partial, w.conv]
        kernel[self._grid()](
            *sources,
            self._next_queue,
            self._y,
            self._lengths,
            self._cond,
            w.bias,
            w.cond,
            w.res,
            w.res_bias,
            self._gate,
            w.out,
            row,
            self._flow.visits[row],
            H,
            W,
            self._dilation,
            self._flow.scale,
            C=self._flow.channels,
            N_MELS=_n_mels(w),
            N_PAST=min(row, 2),
            LAST=self._next_queue is None,
            **self._sizes(),
        )

    def _grid(self) -> tuple[int, int]:
        n_items, _, n_columns = self._cond.shape[:3]
        return triton.cdiv(n_columns, self._tile.n_columns), n_items

    def _sizes(self) -> dict[str, int]:
        return {
            "BLOCK_W": self._tile.n_columns,
            "BLOCK_K": self._tile.depth,
            "num_warps": self._tile.n_warps,
            "num_stages": self._tile.n_stages,
        }


def invert_flow_triton(
    z: Tensor, cond: Conditioning, weights: FlowWeights, lengths: Sequence[int] | None = None
) -> Tensor:
    """Do `invert_flow` with the Triton kernels, over memory of this call's own."""
    B, _, W = z.shape
    columns = torch.tensor([W] * B if lengths is None else list(lengths), dtype=torch.int32)
    cond = cond.contiguous() if isinstance(cond, Tensor) else [c.contiguous() for c in cond]
    inversion = Inversion([weights], z.contiguous(), cond, columns.to(z.device))
    inversion()
    return inversion.x


def fold_front(weights: FlowWeights) -> Tensor:
    """Return layer 0 as a matrix (32, 2C) of what it reads of x.

    Its rows meet x at the nine taps, then what rounding x to the operands' type lost there, then a
    flag of each tap being inside, then nothing.
    """
    conv = weights.layers[0].conv.to(weights.front_weight.dtype)
    values = weights.front_weight @ conv  # (9, 2C)
    flags = weights.front_bias @ conv
    nothing = torch.zeros_like(values[:5])
    return torch.cat([values, values, flags, nothing]).to(weights.dtype)


def contiguous(weights: FlowWeights) -> FlowWeights:
    """Return weights whose tensors lie in memory as their shapes say; mostly they do."""
    layers = []
    for layer in weights.layers:
        tensors: dict[str, Any] = {f.name: getattr(layer, f.name) for f in fields(layer)}
        changes = {name: t.contiguous() for name, t in tensors.items() if t is not None}
        layers.append(replace(layer, **changes))
    return replace(
        weights,
        layers=tuple(layers),
        front_weight=weights.front_weight.contiguous(),
        front_bias=weights.front_bias.contiguous(),
        out_bias=weights.out_bias.contiguous(),
    )


def gate_of(weights: GatedConvWeights) -> Tensor:
    """Return the factors (C,) of the residual."""
    return torch.ones_like(weights.out[:, 0]) if weights.gate is None else weights.gate


def _n_mels(weights: GatedConvWeights) -> int:
    return 0 if weights.cond is None else weights.cond.shape[0]
