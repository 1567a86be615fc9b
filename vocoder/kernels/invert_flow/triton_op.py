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

import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from vocoder.kernels.graphs import GraphCache
from vocoder.kernels.invert_flow.op import Conditioning, FlowWeights, Source
from vocoder.kernels.invert_flow.triton_launch import Layer, Opener, layer_arguments, n_mels_of
from vocoder.kernels.invert_flow.triton_tiles import Tile, choose_tile


class TritonInverter:
    """The inverse of a voice's flows on a GPU, by one CUDA graph for each batch size and width.

    Args:
        flows: The flows in forward order, with operands of 16 bits, all of one size.
    """

    def __init__(self, flows: Sequence[FlowWeights]) -> None:
        backwards = flows[::-1]
        self._turn = threading.Lock()  # threads share the programs, and each program its buffers
        self._programs = GraphCache(
            lambda n_items, width: Inversion.allocate(backwards, n_items, width),
            flows[0].front_weight.device,
        )

    @torch.no_grad()
    def invert_in_place(self, z: Tensor, cond: Source, lengths: Tensor | None = None) -> None:
        """Map noise to data through all flows; see `Inverter`."""
        n_items, _, width = z.shape
        if lengths is None:
            lengths = torch.full((n_items,), width, device=z.device)
        given = cond(slice(0, n_items), 0, width)
        with self._turn:
            program, run = self._programs.get(n_items, width)
            program.fill(z, given, lengths)
            run()
            z.copy_(program.x[..., :width])


class Inversion:
    """K flows, inverted one after the other over tensors that it is given once.

    A call launches kernels and does nothing else: it allocates nothing, reads nothing back and
    takes no decision by the data, so it can be captured in a CUDA graph.

    Args:
        flows: The flows in the order of their inversion; all with the same channels, layers and
            rows.
        z: (B, H, W) float32, contiguous: the noise, rows in natural order; stays as it is.
        cond: Conditioning as `invert_flow` takes it; contiguous, and the same for all flows.
        lengths: (B,) int32, columns of each item.
        tile: Tile of the layers; None is that of `choose_tile` for z's card.

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
        self._flows: list[tuple[Opener, list[Layer]]] = []
        following: list[Tensor | None] = [*queues, None]
        for flow in map(contiguous, flows):
            self.x = rows[len(self._flows) % 2]
            first, *others = (
                layer_arguments(flow, i, conds[i], following[i], y, lengths) for i in range(L)
            )
            opener = Opener(flow, z, self.x, first)
            layers = [
                Layer(w.conv, flow.visits, queue, partial, arguments, tile, beside)
                for w, queue, partial, arguments in zip(
                    flow.layers[1:], queues, partials, others, strict=True
                )
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
        n_mels = n_mels_of(first.layers[0])
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
