"""A layer's step on the CPU: its queue of rows, its buffers, and what is done with them.

A step on a row is some twenty operations between the same few buffers in every flow, so their views
are made once and nothing is allocated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.kernels.invert_flow.cpu_weights import FlowLayer
from vocoder.kernels.winograd import MIDDLE, Filtering

ROWS = 3  # that a convolution reaches


@dataclass(frozen=True)
class Window:
    """The columns [lo, hi) of one row.

    Args:
        row: Row of the network, counted from 0.
        step: the row among those of all flows.
        lo: First column of the window.
        hi: one past the last.
        origin: column at which the queues of this tile and flow start.
    """

    row: int
    step: int
    lo: int
    hi: int
    origin: int


class Queue:
    """The transformed rows that a layer's convolution still reaches.

    Rows d_h apart make up one ring, in which the height dilation is 1. A ring keeps its rows side
    by side, so that the product over three rows is one: (tiles × 3C) @ (3C × 2C). Each new row
    takes the slot of the oldest.

    Args:
        filtering: Filtering of the row.
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
        size = (filtering.n_products, B, -(-width // self.block), self.d_w, ROWS, C)
        self.rings = [like.new_empty(size) for _ in range(self.d_h)]

    def kind(self, row: int) -> int:
        """Return the first row that finds its queue as this one does: they come in cycles."""
        start, cycle = 2 * self.d_h, ROWS * self.d_h
        return row if row < start else start + (row - start) % cycle

    def tiles(self, n_columns: int) -> tuple[int, int, int]:
        """Return the blocks of so many columns, the outputs of a tile, and the tiles of a block."""
        return -(-n_columns // self.block), self.filtering.m, self.d_w

    def bind_push(
        self, row: int, h: Tensor, column: int, blocks: range, scratch: Tensor
    ) -> Callable[[], object]:
        """Return what adds columns of one of the network's rows, which come in turn.

        Args:
            row: counted from 0; the rows above are zero.
            h: (B, columns, C), with the neighbours that the filter reaches on both sides.
            column: Column of h at which the blocks start.
            blocks: Blocks of the queue that the columns become.
            scratch: Memory to work in, as `Filtering.bind` takes it.
        """
        ring = self.rings[row % self.d_h][:, :, blocks.start : blocks.stop]
        B, C = h.shape[0], h.shape[2]
        halo = 0 if self.filtering is MIDDLE else self.d_w
        inputs = h.as_strided(
            (self.filtering.n_products, B, len(blocks), self.d_w, C),
            (self.d_w * C, h.stride(0), self.block * C, C, 1),
            (column - halo) * C,
        )
        out = ring[..., row // self.d_h % ROWS, :]
        return self.filtering.bind(inputs, out, scratch)

    def window(self, row: int, blocks: range) -> tuple[Tensor, slice]:
        """Return the rows that reach `row`: (P, B · blocks · d, rows · C), and their taps.

        They come as they lie: in the slots 0, 1, 2 are the taps 0, 1, 2, or 2, 0, 1, or 1, 2, 0,
        each of which is a part of 0, 1, 2, 0, 1.
        """
        ring = self.rings[row % self.d_h]
        position = row // self.d_h
        n_rows = min(position + 1, ROWS)
        P, B, n_blocks, d, _, C = ring.shape
        assert B == 1 or len(blocks) == n_blocks  # items and blocks are one axis
        rows = ring.as_strided(
            (P, B * len(blocks) * d, n_rows * C),
            (ring.stride(0), ROWS * C, 1),
            blocks.start * ring.stride(2),
        )
        first = ROWS - 1 - position % ROWS
        return rows, slice(first, first + n_rows)


class Workspace:
    """Buffers that every layer's step overwrites.

    Args:
        n_products: Products of all tiles of a row, or what a transform needs, whichever is more.
        n_columns: Number of columns of all items.
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


class LayerStep:
    """A layer's step on the rows of one kind: its views of the buffers, for every flow.

    Args:
        queue: Queue of the layer.
        window: Window of the row.
        left: columns to the left of the window that go into the queue as well.
        n: columns of the window that the layer computes.
        h: (B, columns, C), the layers' inputs of one row, each layer's in the place of the last's.
        margin: column of h at which the window starts.
        params: (B, columns, 2), (log_s, t) from the window's start on.
        workspace: Memory to compute in.
        last: the layer has no residual.
    """

    def __init__(
        self,
        queue: Queue,
        window: Window,
        left: int,
        n: int,
        h: Tensor,
        margin: int,
        params: Tensor,
        workspace: Workspace,
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

    def __call__(self, layer: FlowLayer, cond: Tensor) -> None:
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
