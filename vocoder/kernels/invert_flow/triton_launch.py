"""Launches of the Triton kernels of `invert_flow`: those of one flow, row after row."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from vocoder.kernels.gated_conv.op import GatedConvWeights
from vocoder.kernels.invert_flow.op import FlowWeights
from vocoder.kernels.invert_flow.triton_kernels import (
    AFFINE,
    COPY,
    ZERO,
    row_close,
    row_layer,
    row_open,
)
from vocoder.kernels.invert_flow.triton_tiles import CLOSER, OPENER, Tile
from vocoder.kernels.invert_flow.triton_transposed import row_ahead, row_layer_transposed


def layer_arguments(
    flow: FlowWeights,
    index: int,
    cond: Tensor,
    next_queue: Tensor | None,
    y: Tensor,
    lengths: Tensor,
) -> dict[str, Any]:
    """Return what every kernel of a layer takes, by the names of its parameters.

    Args:
        flow: The flow to run.
        index: The number of the layer.
        cond: The conditioning of the layer.
        next_queue: The input rows of the layer after it, or None.
        y: What the rows give so far, (2, B, 2, W); see `triton_kernels`.
        lengths: Columns (B,) of each item, int32.
    """
    _, H, W = cond.shape[:3]
    w = flow.layers[index]
    return {
        "next_queue": next_queue,
        "y": y,
        "lengths": lengths,
        "cond": cond,
        "bias": w.bias,
        "cond_weight": w.cond,
        "res": w.res,
        "res_bias": w.res_bias,
        "gate": gate_of(w),
        "out": w.out,
        "H": H,
        "W": W,
        "dilation": flow.dilations[index][1],
        "scale": flow.scale,
        "C": flow.channels,
        "N_MELS": n_mels_of(w),
        "LAST": next_queue is None,
    }


class Opener:
    """Makes a flow's rows of x and runs layer 0 on them.

    Args:
        flow: The flow to run.
        z: What it maps, (B, H, W).
        x: What it maps to, (B, H, W).
        arguments: The arguments of layer 0; see `layer_arguments`.
    """

    def __init__(self, flow: FlowWeights, z: Tensor, x: Tensor, arguments: dict[str, Any]) -> None:
        self.flow = flow
        self._rows = {"z": z, "x": x}
        self._arguments = arguments
        self._weights = {
            "taps": fold_front(flow),
            "front_weight": flow.front_weight,
            "front_bias": flow.front_bias,
            "out_bias": flow.out_bias,
        }
        # Natural rows of the network's inputs; -1 is a row of zeros.
        self._inputs = flow.order if flow.passthrough else (-1, *flow.order)

    def run(self, row: int) -> None:
        """Launch the network's row `row`."""
        inputs = self._inputs
        row_open[self._grid(OPENER)](
            **self._rows,
            **self._arguments,
            **self._weights,
            row=row,
            z_row=inputs[row],
            row_1=inputs[row - 1] if row >= 1 else -1,
            row_2=inputs[row - 2] if row >= 2 else -1,
            cond_row=self.flow.visits[row],
            N_PAST=min(row, 2),
            INPUT=self._input(row),
            BLOCK_W=OPENER.n_columns,
            num_warps=OPENER.n_warps,
            num_stages=OPENER.n_stages,
        )

    def close(self) -> None:
        """Launch what stores the last row of x."""
        row = len(self.flow.visits)
        row_close[self._grid(CLOSER)](
            **self._rows,
            **{name: self._arguments[name] for name in ("y", "lengths", "H", "W")},
            row=row,
            z_row=self._inputs[row],
            INPUT=self._input(row),
            BLOCK_W=CLOSER.n_columns,
            num_warps=CLOSER.n_warps,
            num_stages=CLOSER.n_stages,
        )

    def _grid(self, tile: Tile) -> tuple[int, int]:
        n_items, _, n_columns = self._rows["z"].shape
        return triton.cdiv(n_columns, tile.n_columns), n_items

    def _input(self, row: int) -> int:
        kind = AFFINE if row else COPY if self.flow.passthrough else ZERO
        return int(kind.value)


class Layer:
    """Runs layer 1, 2, ... of a flow.

    Args:
        conv: The matrix (9, C, 2C) of its convolution.
        visits: The natural row of each row of the network.
        queue: Input rows of the layer.
        partial: Memory (B, W, 2C) for what was looked ahead, or None.
        arguments: The arguments of the layer; see `layer_arguments`.
        tile: How its rows are cut.
        beside: The stream to look ahead on; None is the current one.
    """

    def __init__(
        self,
        conv: Tensor,
        visits: tuple[int, ...],
        queue: Tensor,
        partial: Tensor | None,
        arguments: dict[str, Any],
        tile: Tile,
        beside: torch.cuda.Stream | None,
    ) -> None:
        self._visits, self._arguments = visits, arguments
        self._tile, self._beside = tile, beside
        self._looked: torch.cuda.Event | None = None
        self._sources: dict[str, Any] = {"queue": queue, "conv": conv}
        if tile.layout == "transposed":
            self._kernel = row_layer_transposed
            self._sources["partial"] = partial
        else:
            self._kernel = row_layer
            self._sources |= {"queue_tiles": None, "conv_tiles": None}
        if tile.layout == "descriptors":
            flat = conv.flatten(0, 1)
            self._sources |= {
                "queue_tiles": TensorDescriptor.from_tensor(queue, [1, tile.n_columns, tile.depth]),
                "conv_tiles": TensorDescriptor.from_tensor(flat, [tile.depth, flat.shape[1]]),
            }

    def look_ahead(self, row: int) -> None:
        """Launch, beside what is launched next, what the rows above `row` give."""
        if self._sources.get("partial") is None:
            return
        if self._beside is None:
            self._launch_ahead(row)
            return
        self._beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._beside):
            self._launch_ahead(row)
            self._looked = self._beside.record_event()

    def _launch_ahead(self, row: int) -> None:
        names = ("cond", "bias", "cond_weight", "H", "W", "dilation", "C", "N_MELS")
        row_ahead[self._grid()](
            **self._sources,
            **{name: self._arguments[name] for name in names},
            **self._place(row),
        )

    def run(self, row: int) -> None:
        """Launch the network's row `row`."""
        if self._looked is not None:
            torch.cuda.current_stream().wait_event(self._looked)
        self._kernel[self._grid()](**self._sources, **self._arguments, **self._place(row))

    def _grid(self) -> tuple[int, int]:
        n_items, _, n_columns = self._arguments["cond"].shape[:3]
        return triton.cdiv(n_columns, self._tile.n_columns), n_items

    def _place(self, row: int) -> dict[str, int]:
        """Return the arguments that say which row is run, and in which tiles."""
        return {
            "row": row,
            "cond_row": self._visits[row],
            "N_PAST": min(row, 2),
            "BLOCK_W": self._tile.n_columns,
            "BLOCK_K": self._tile.depth,
            "num_warps": self._tile.n_warps,
            "num_stages": self._tile.n_stages,
        }


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


def gate_of(weights: GatedConvWeights) -> Tensor:
    """Return the factors (C,) of the residual."""
    return torch.ones_like(weights.out[:, 0]) if weights.gate is None else weights.gate


def n_mels_of(weights: GatedConvWeights) -> int:
    """Return the bands of the mel that a layer projects, or 0 where it comes projected."""
    return 0 if weights.cond is None else weights.cond.shape[0]
