"""The inference twin of `gated_conv2d`: invert one flow, one new row against a queue of past rows.

The network never sees a future row, so its input is known one row at a time: row r of z becomes
row r of x, which is the next input. Each layer keeps the rows that its convolution still reaches.
Source: WaveFlow, a compact flow-based model for raw audio (ICML 2020), §3.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.kernels.card import Card, find_card, refuse_card
from vocoder.kernels.dispatch import REFERENCE, Backend, choose, log_choice, requested
from vocoder.kernels.gated_conv.op import GatedConvWeights, gated_conv2d_reference


@dataclass(frozen=True)
class FlowWeights:
    """All that the inversion of one affine flow needs; a model packs it once per voice.

    Args:
        layers: the gated layers, first to last; the last has no residual.
        front_weight: (C,), at least float32: the 1 × 1 convolution from one channel to h_0 ...
        front_bias: (C,), at least float32: ... and its bias.
        out_bias: (2,), at least float32: what the skip biases and the head add to (log_s, t).
        dilations: along rows and along columns, one pair a layer.
        scale: factor of every layer's h_next.
        order: the natural row that is visited first, second, ...
        passthrough: the first visited row is copied, and the network starts from it; otherwise
            the network starts from a row of zeros and every row is transformed.
        causal: no layer sees a column to the right.
    """

    layers: tuple[GatedConvWeights, ...]
    front_weight: Tensor
    front_bias: Tensor
    out_bias: Tensor
    dilations: tuple[tuple[int, int], ...]
    scale: float
    order: tuple[int, ...]
    passthrough: bool = False
    causal: bool = False

    @property
    def channels(self) -> int:
        """Residual channels C."""
        return self.front_weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the operands: the queues of rows and the matrices that they meet."""
        return self.layers[0].conv.dtype

    @property
    def visits(self) -> tuple[int, ...]:
        """Natural rows that the network predicts, one for each of its rows."""
        return self.order[1:] if self.passthrough else self.order


def cast_flows(flows: Sequence[FlowWeights], dtype: torch.dtype) -> list[FlowWeights]:
    """Return flows with operands of `dtype` and the rest in at least float32.

    What flows share they go on sharing: on a GPU it then stays in the cache.
    """
    cast: dict[int, Tensor] = {}

    def operand(tensor: Tensor) -> Tensor:
        if id(tensor) not in cast:
            cast[id(tensor)] = tensor.to(dtype)
        return cast[id(tensor)]

    return [
        replace(
            flow,
            layers=tuple(
                replace(
                    layer,
                    conv=operand(layer.conv),
                    cond=None if layer.cond is None else operand(layer.cond),
                    res=None if layer.res is None else operand(layer.res),
                )
                for layer in flow.layers
            ),
        )
        for flow in flows
    ]


Conditioning = Tensor | Sequence[Tensor]


class Source(Protocol):
    """Gives what the layers are conditioned on, part by part as it is asked for."""

    def __call__(self, items: slice, lo: int, hi: int) -> Conditioning:
        """Return the conditioning of some items in the columns [lo, hi); see `invert_flow`."""


class Inverter(Protocol):
    """The inverse of a voice's flows: packed once, and then used for every utterance.

    Every backend has one, made from the flows in forward order, all of one size.
    """

    def invert_in_place(self, z: Tensor, cond: Source, lengths: Tensor | None = None) -> None:
        """Map noise to data through all flows, the last one first. No gradients.

        Args:
            z: (B, H, W), of any strides, rows in natural order; becomes x.
            cond: Gives what the layers are conditioned on.
            lengths: Columns (B,) of each item of a padded batch. An item comes out as it would
                alone, whatever lies beyond its end; x is zero there. None: all have W columns.
        """


def invert_flow(
    z: Tensor,
    cond: Conditioning,
    weights: FlowWeights,
    *,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """Map noise to data through one flow: x = (z − t) · exp(−log_s), row after row. No gradients.

    Args:
        z: (B, H, W), float32 (the reference: float64 too), rows in natural order.
        cond: what the layers are conditioned on, rows in natural order, of the operands' type:
            one mel (B, H, W, M) for all layers where they have a `cond` matrix, otherwise one
            projected (B, H, W, 2C) for each of the L layers, without the bias.
        weights: Weights of the flow.
        lengths: columns of each item of a padded batch. An item comes out as it would alone, bit
            for bit where the tiles are the same, whatever z and cond hold beyond its end; x is
            zero there.

    Returns:
        x (B, H, W), of z's type, rows in natural order.

    Raises:
        VocoderError: an argument that does not fit the others; the line names it and the remedy.
        BackendError: the backend that was asked for cannot run this.
    """
    check_flow(z, cond, weights, lengths)
    choice = choose(BACKENDS, call_of(z, weights), requested())
    log_choice("invert_flow", choice.backend.name, choice.refusals)
    inverter: Inverter = choice.backend.load()([weights])
    x = z.clone(memory_format=torch.contiguous_format)
    inverter.invert_in_place(
        x,
        lambda items, lo, hi: _part(cond, items, lo, hi),
        None if lengths is None else torch.tensor(lengths, device=z.device),
    )
    return x


def _part(cond: Conditioning, items: slice, lo: int, hi: int) -> Conditioning:
    if isinstance(cond, Tensor):
        return cond[items, :, lo:hi]
    return [c[items, :, lo:hi] for c in cond]


class ReferenceInverter:
    """The inverse that defines all others: `invert_flow_reference`, flow after flow.

    Args:
        flows: The flows in forward order.
    """

    def __init__(self, flows: Sequence[FlowWeights]) -> None:
        self.flows = flows

    @torch.no_grad()
    def invert_in_place(self, z: Tensor, cond: Source, lengths: Tensor | None = None) -> None:
        """Map noise to data through all flows; see `Inverter`."""
        own = None if lengths is None else lengths.tolist()
        given = cond(slice(0, len(z)), 0, z.shape[2])
        for weights in reversed(self.flows):
            z.copy_(invert_flow_reference(z, given, weights, own))


def invert_flow_reference(
    z: Tensor, cond: Conditioning, weights: FlowWeights, lengths: Sequence[int] | None = None
) -> Tensor:
    """Do `invert_flow` in plain torch: the layer of training, fed one row at a time."""
    B, _, W = z.shape
    beyond = None
    if lengths is not None:
        columns = torch.arange(W, device=z.device)
        beyond = columns >= torch.tensor(lengths, device=z.device)[:, None]
    past = [
        z.new_zeros((B, 2 * d_h, W, weights.channels), dtype=weights.dtype)
        for d_h, _ in weights.dilations
    ]
    x = torch.zeros_like(z)
    row = torch.zeros_like(z[:, 0])  # the network's next input
    if weights.passthrough:
        row = x[:, weights.order[0]] = mask(z[:, weights.order[0]], beyond)
    for visit in weights.visits:
        h = row[:, None, :, None] * weights.front_weight + weights.front_bias
        h = h.to(weights.dtype)
        y = weights.out_bias
        for i, layer in enumerate(weights.layers):
            h = mask(h, None if beyond is None else beyond[:, None, :, None])
            c = (cond if isinstance(cond, Tensor) else cond[i])[:, visit : visit + 1]
            h_next, y_layer = gated_conv2d_reference(
                h,
                c,
                layer,
                dilation=weights.dilations[i],
                scale=weights.scale,
                causal=weights.causal,
                past=past[i],
            )
            past[i] = torch.cat([past[i], h], dim=1)[:, 1:]
            y = y + y_layer
            h = h if h_next is None else h_next
        log_s, t = y[:, 0].unbind(-1)
        row = mask((z[:, visit] - t) * (-log_s).exp(), beyond).to(z.dtype)
        x[:, visit] = row
    return x


def mask(rows: Tensor, beyond: Tensor | None) -> Tensor:
    """Return rows with zeros `beyond` the items' ends, even where the padding holds NaN."""
    return rows if beyond is None else rows.masked_fill(beyond, 0.0)


def check_flow(
    z: Tensor,
    cond: Conditioning,
    weights: FlowWeights,
    lengths: Sequence[int] | None,
) -> None:
    """Refuse arguments that do not fit each other.

    Raises:
        VocoderError: the line names the argument, what it got and what to give.
    """
    if z.ndim != 3 or not z.is_floating_point():
        raise VocoderError(f"z is {tuple(z.shape)} of {z.dtype}; give floats (B, H, W)")
    B, H, W = z.shape
    _check_weights(weights)
    if sorted(weights.order) != list(range(H)):
        raise VocoderError(
            f"order {list(weights.order)}: not a permutation of the {H} rows of z; "
            f"name each row 0 to {H - 1} once"
        )
    first = weights.layers[0]
    if isinstance(cond, Tensor):
        if first.cond is None:
            raise VocoderError(
                "cond is one tensor and the layers have no matrix to project it; give one "
                f"projected ({B}, {H}, {W}, {2 * weights.channels}) for each of the "
                f"{len(weights.layers)} layers, or pack the layers with their cond matrix"
            )
        conds, width = [cond], first.cond.shape[0]
    else:
        if first.cond is not None or len(cond) != len(weights.layers):
            wanted = "one mel" if first.cond is not None else f"{len(weights.layers)} tensors"
            raise VocoderError(f"cond is {len(cond)} tensors; these layers take {wanted}")
        conds, width = list(cond), 2 * weights.channels
    for c in conds:
        if tuple(c.shape) != (B, H, W, width):
            raise VocoderError(f"cond is {tuple(c.shape)}; give ({B}, {H}, {W}, {width})")
        _same(c, weights.dtype, z.device, "cond")
    _same(first.conv, weights.dtype, z.device, "weights")
    if lengths is not None and (len(lengths) != B or not all(1 <= n <= W for n in lengths)):
        raise VocoderError(f"lengths {list(lengths)}: give {B} numbers of columns from 1 to {W}")


@dataclass(frozen=True)
class Call:
    """The facts of a call that decide which backend computes it.

    Args:
        device: "cpu", "cuda", ...
        card: The CUDA device; None where it is another.
        dtype: Type of the operands.
        z_dtype: Type of z.
        channels: Number of channels C.
        n_mels: M where the layers project a mel, otherwise 0.
        d_h: the greatest dilation along rows.
        causal: no layer sees a column to the right.
        has_numba: Numba can be imported.
    """

    device: str
    card: Card | None
    dtype: torch.dtype
    z_dtype: torch.dtype
    channels: int
    n_mels: int
    d_h: int
    causal: bool = False
    has_numba: bool = True


def call_of(z: Tensor, weights: FlowWeights) -> Call:
    """Return the facts of a checked call."""
    cond = weights.layers[0].cond
    return Call(
        device=z.device.type,
        card=find_card(z.device.type, z.device.index),
        dtype=weights.dtype,
        z_dtype=z.dtype,
        channels=weights.channels,
        n_mels=0 if cond is None else cond.shape[0],
        d_h=max(d_h for d_h, _ in weights.dilations),
        causal=weights.causal,
        has_numba=importlib.util.find_spec("numba") is not None,
    )


def refuse_triton(call: Call) -> str | None:
    """Say why the Triton kernels cannot compute a call."""
    if reason := refuse_card(call.device, call.card):
        return reason
    if call.dtype not in (torch.float16, torch.bfloat16):
        return f"{str(call.dtype).removeprefix('torch.')} has no tensor cores; pack for float16"
    if call.z_dtype != torch.float32:
        return f"z is {str(call.z_dtype).removeprefix('torch.')}; only float32"
    if call.channels not in (64, 128):
        return f"{call.channels} channels; compiled for 64 and 128"
    if call.n_mels % 16:
        return f"{call.n_mels} mel bands; a multiple of 16, or projected beforehand"
    if call.d_h != 1:
        return f"height dilation {call.d_h}; only 1"
    if call.causal:
        return "an estimator that is causal along columns; only symmetric ones"
    return None


def refuse_cpu(call: Call) -> str | None:
    """Say why the CPU's row op cannot compute a call."""
    if call.device != "cpu":
        return f"the tensors are on the {call.device}, not on the CPU"
    wide = torch.float32 if call.dtype == torch.bfloat16 else call.dtype
    if call.dtype not in (torch.float32, torch.float64, torch.bfloat16) or call.z_dtype != wide:
        return f"{str(call.dtype).removeprefix('torch.')}; only float32, float64 and bfloat16"
    if call.dtype == torch.bfloat16 and call.causal:
        return "bfloat16 in an estimator that is causal along columns; only symmetric ones"
    if call.dtype == torch.bfloat16 and not call.has_numba:
        return "numba is not installed, which librosa brings"
    if call.n_mels == 0:
        return "the conditioning comes projected; pack the layers with their cond matrix"
    return None


BACKENDS: tuple[Backend[Call], ...] = (
    Backend("triton", refuse_triton, "vocoder.kernels.invert_flow.triton_op", "TritonInverter"),
    Backend("cpu", refuse_cpu, "vocoder.kernels.invert_flow.cpu_inverters", "cpu_inverter"),
    Backend(REFERENCE, lambda _: None, __name__, "ReferenceInverter"),
)


def _check_weights(weights: FlowWeights) -> None:
    C, L = weights.channels, len(weights.layers)
    if tuple(weights.out_bias.shape) != (2,):
        raise VocoderError(
            f"out_bias is {tuple(weights.out_bias.shape)}; the row op knows the affine transform, "
            "(2,), alone: use model.inverse for any other"
        )
    if len(weights.dilations) != L or any(min(pair) < 1 for pair in weights.dilations):
        raise VocoderError(
            f"dilations {weights.dilations}: give {L} pairs (rows, columns) of at least 1"
        )
    for i, layer in enumerate(weights.layers):
        shapes = {"conv": (9, C, 2 * C), "bias": (2 * C,), "out": (C, 2)}
        if i + 1 < L:
            shapes |= {"res": (C, C), "res_bias": (C,)}
        for name, shape in shapes.items():
            tensor = getattr(layer, name)
            got = None if tensor is None else tuple(tensor.shape)
            if got != shape:
                raise VocoderError(f"weights.layers[{i}].{name} is {got}; give {shape}")


def _same(tensor: Tensor, dtype: torch.dtype, device: torch.device, name: str) -> None:
    if tensor.dtype != dtype or tensor.device != device:
        raise VocoderError(
            f"{name} is {tensor.dtype} on {tensor.device}; give {dtype} on {device}, as the others"
        )
