"""`gated_conv2d` on NVIDIA GPUs: fused forward and backward as two opaque torch ops.

Seen so far: right in Triton's interpreter, and compiled for sm_80, sm_89 and sm_90 without spills.
Nothing here has run on a GPU yet.

For the backward pass h (C channels) and the pre-activation a (2C) are kept in 16 bit; the gate is
computed again. What is left beside the kernels is plain matrix products.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from vocoder.kernels.gated_conv.op import GatedConvWeights
from vocoder.kernels.gated_conv.triton_kernels import (
    gate_backward,
    input_gradient,
    layer_forward,
    weight_gradient,
)
from vocoder.kernels.gated_conv.triton_tiles import Tile, Tiles, choose_tiles

# Programs of the weight gradient for each tap: 9 of them 15 times fill the 132 processors of an
# H100.
N_SPLITS = 15


def gated_conv2d_triton(
    h: Tensor,
    cond: Tensor,
    w: GatedConvWeights,
    *,
    dilation: tuple[int, int],
    scale: float = 1.0,
    causal: bool = False,
    past: Tensor | None = None,
    recompute: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """Compute `gated_conv2d`; symmetric, no queue of past rows, height dilation 1. See there."""
    assert past is None
    assert not causal
    assert dilation[0] == 1
    gate = w.gate
    if gate is None and w.res is not None:
        gate = torch.ones_like(w.bias[: h.shape[3]])
    tensors = (h, cond, w.conv, w.bias, w.cond, w.res, w.res_bias, gate, w.out)
    h_next, y, _ = layer(*tensors, dilation[1], scale, not recompute)
    return (None if w.res is None else h_next), y


def _forward(
    h: Tensor,
    cond: Tensor,
    conv: Tensor,
    bias: Tensor,
    cond_weight: Tensor | None,
    res: Tensor | None,
    res_bias: Tensor | None,
    gate: Tensor | None,
    out: Tensor,
    dilation: int,
    scale: float,
    save_a: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    h, cond = h.contiguous(), cond.contiguous()
    B, H, W, C = h.shape
    h_next = h.new_empty(0 if res is None else h.shape)
    y = h.new_empty((B, H, W, out.shape[1]), dtype=torch.float32)
    a = h.new_empty((B, H, W, 2 * C) if save_a else 0)
    tile = _tiles(h).forward
    with _on(h):
        layer_forward[_grid(h, tile)](
            h,
            cond,
            conv.to(h.dtype).contiguous(),
            bias.contiguous(),
            None if cond_weight is None else cond_weight.to(h.dtype).contiguous(),
            None if res is None else res.to(h.dtype).contiguous(),
            None if res_bias is None else res_bias.contiguous(),
            None if gate is None else gate.contiguous(),
            out.contiguous(),
            None if res is None else h_next,
            y,
            a if save_a else None,
            H,
            W,
            dilation,
            scale,
            C=C,
            N_MELS=0 if cond_weight is None else cond_weight.shape[0],
            N_OUT=out.shape[1],
            LAST=res is None,
            SAVE_A=save_a,
            BLOCK_W=tile.columns,
            BLOCK_K=tile.depth,
            num_warps=tile.n_warps,
            num_stages=tile.n_stages,
        )
    return h_next, y, a


@torch.library.custom_op("vocoder::gated_conv2d", mutates_args=())
def layer(
    h: Tensor,
    cond: Tensor,
    conv: Tensor,
    bias: Tensor,
    cond_weight: Tensor | None,
    res: Tensor | None,
    res_bias: Tensor | None,
    gate: Tensor | None,
    out: Tensor,
    dilation: int,
    scale: float,
    save_a: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h_next, y and the pre-activation a; what is not wanted is an empty tensor."""
    return _forward(
        h, cond, conv, bias, cond_weight, res, res_bias, gate, out, dilation, scale, save_a
    )


@layer.register_fake
def _(
    h: Tensor,
    cond: Tensor,
    conv: Tensor,
    bias: Tensor,
    cond_weight: Tensor | None,
    res: Tensor | None,
    res_bias: Tensor | None,
    gate: Tensor | None,
    out: Tensor,
    dilation: int,
    scale: float,
    save_a: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    B, H, W, C = h.shape
    return (
        h.new_empty(0 if res is None else h.shape),
        h.new_empty((B, H, W, out.shape[1]), dtype=torch.float32),
        h.new_empty((B, H, W, 2 * C) if save_a else 0),
    )


@torch.library.custom_op("vocoder::gated_conv2d_backward", mutates_args=())
def layer_backward(
    dh_next: Tensor | None,
    dy: Tensor | None,
    a: Tensor,
    h: Tensor,
    cond: Tensor,
    conv: Tensor,
    bias: Tensor,
    cond_weight: Tensor | None,
    res: Tensor | None,
    res_bias: Tensor | None,
    gate: Tensor | None,
    out: Tensor,
    dilation: int,
    scale: float,
) -> list[Tensor]:
    """Return the gradients of h, cond, conv, bias and out, then, where they exist, of the others.

    The others are cond_weight, res, res_bias and gate, in this order. An empty `a` is computed
    again.
    """
    if a.numel() == 0:
        *_, a = _forward(
            h, cond, conv, bias, cond_weight, res, res_bias, gate, out, dilation, scale, True
        )
    h, cond = h.contiguous(), cond.contiguous()
    if dy is None:
        dy = h.new_zeros((*h.shape[:3], out.shape[1]), dtype=torch.float32)
    if res is not None:
        dh_next = torch.zeros_like(h) if dh_next is None else dh_next.contiguous()
    da, o, sums = _through_the_gate(dh_next, dy, a, h, res, gate, out, scale)
    dh, dconv = _through_the_convolution(da, dh_next, h, conv, dilation, scale, last=res is None)
    N = out.shape[1]
    dbias = sums[N : N + 2].flatten().clone()  # an op's outputs share no memory
    da, o = da.flatten(0, 2), o.flatten(0, 2)
    gradients = [dh, da, dconv, dbias, sums[:N].t()]
    wanted = [h, cond, conv, bias, out]
    if cond_weight is None:
        gradients[1] = da.view(cond.shape)
    else:
        gradients[1] = (da @ cond_weight.to(da.dtype).t()).view(cond.shape)
        gradients.append(_product(cond.flatten(0, 2).t(), da))
        wanted.append(cond_weight)
    if res is not None and res_bias is not None and gate is not None and dh_next is not None:
        G = _product(o.t(), dh_next.flatten(0, 2)) * scale
        dr = sums[N + 2] * scale  # of the residual, before the gate
        dgate = (res * G).sum(dim=0) + res_bias * dr
        gradients += [G * gate, dr * gate, dgate]
        wanted += [res, res_bias, gate]
    return [g.to(t.dtype).contiguous() for g, t in zip(gradients, wanted, strict=True)]


def _through_the_gate(
    dh_next: Tensor | None,
    dy: Tensor,
    a: Tensor,
    h: Tensor,
    res: Tensor | None,
    gate: Tensor | None,
    out: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of the pre-activation a, the gate's output o, and sums over positions.

    The sums (n + 3, C) are the gradients of `out`, of both halves of the bias and of the residual.
    """
    _, H, W, C = h.shape
    N, tile = out.shape[1], _tiles(h).gate
    da, o, programs = torch.empty_like(a), torch.empty_like(h), _grid(h, tile)
    sums = h.new_zeros((programs[0] * programs[1], N + 3, C), dtype=torch.float32)
    with _on(h):
        gate_backward[programs](
            dh_next,
            dy.contiguous(),
            a,
            None if res is None else res.to(h.dtype).contiguous(),
            None if gate is None else gate.contiguous(),
            out.contiguous(),
            da,
            o,
            sums,
            H,
            W,
            scale,
            C=C,
            N_OUT=N,
            LAST=res is None,
            BLOCK_W=tile.columns,
            num_warps=tile.n_warps,
            num_stages=tile.n_stages,
        )
    return da, o, sums.sum(dim=0)


def _through_the_convolution(
    da: Tensor,
    dh_next: Tensor | None,
    h: Tensor,
    conv: Tensor,
    dilation: int,
    scale: float,
    *,
    last: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of h and of the matrices `conv`, the latter in float32."""
    B, H, W, C = h.shape
    tiles, dh = _tiles(h), torch.empty_like(h)
    n_tiles = B * H * triton.cdiv(W, tiles.weight.columns)
    n_trips = triton.cdiv(n_tiles, N_SPLITS)
    n_splits = triton.cdiv(n_tiles, n_trips)
    dconv = h.new_empty((n_splits, 9, C, 2 * C), dtype=torch.float32)
    with _on(h):
        input_gradient[_grid(h, tiles.input)](
            da,
            dh_next,
            conv.to(h.dtype).contiguous(),
            dh,
            H,
            W,
            dilation,
            scale,
            C=C,
            LAST=last,
            BLOCK_W=tiles.input.columns,
            BLOCK_K=tiles.input.depth,
            num_warps=tiles.input.n_warps,
            num_stages=tiles.input.n_stages,
        )
        weight_gradient[(9 * 2 * C // tiles.weight.depth, n_splits)](
            h,
            da,
            dconv,
            H,
            W,
            dilation,
            n_tiles,
            n_trips,
            C=C,
            BLOCK_N=tiles.weight.depth,
            BLOCK_W=tiles.weight.columns,
            num_warps=tiles.weight.n_warps,
            num_stages=tiles.weight.n_stages,
        )
    return dh, dconv.sum(dim=0)


@layer_backward.register_fake
def _(
    dh_next: Tensor | None,
    dy: Tensor | None,
    a: Tensor,
    h: Tensor,
    cond: Tensor,
    conv: Tensor,
    bias: Tensor,
    cond_weight: Tensor | None,
    res: Tensor | None,
    res_bias: Tensor | None,
    gate: Tensor | None,
    out: Tensor,
    dilation: int,
    scale: float,
) -> list[Tensor]:
    tensors = (h, cond, conv, bias, out, cond_weight, res, res_bias, gate)
    return [t.new_empty(t.shape) for t in tensors if t is not None]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.dilation, ctx.scale, _ = inputs
    a = output[2]
    ctx.save_for_backward(a, *tensors)
    ctx.mark_non_differentiable(a)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dh_next: Tensor | None, dy: Tensor | None, _: Any) -> tuple[Any, ...]:
    a, *tensors = ctx.saved_tensors
    last = tensors[5] is None
    gradients = iter(
        layer_backward(None if last else dh_next, dy, a, *tensors, ctx.dilation, ctx.scale)
    )
    dh, dcond, dconv, dbias, dout = (next(gradients) for _ in range(5))
    others = [None if tensor is None else next(gradients) for tensor in tensors[4:8]]
    return dh, dcond, dconv, dbias, *others, dout, None, None, None


layer.register_autograd(_backward, setup_context=_keep)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product of 16-bit tensors in float32."""
    if a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def _grid(h: Tensor, tile: Tile) -> tuple[int, int]:
    B, H, W, _ = h.shape
    return H * triton.cdiv(W, tile.columns), B


def _tiles(h: Tensor) -> Tiles:
    capability = torch.cuda.get_device_capability(h.device) if h.is_cuda else (0, 0)
    return choose_tiles(capability, h.shape[3])


def _on(h: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device; make it the tensor's."""
    return torch.cuda.device(h.device) if h.is_cuda else nullcontext()
