"""The Triton kernels of `gated_conv2d_triton`: one layer on all rows, forward and backward.

Seen so far: right in Triton's interpreter, and compiled for sm_80, sm_89 and sm_90 without spills.
Nothing here has run on a GPU yet.

A program of the kernels over positions has one item (axis 1 of the grid) and one tile of columns
of one row (axis 0, rows fastest, so that neighbours share rows in the cache). Sums are in float32
and in a fixed order: the same gradients come out every time.
"""

# Triton's language has no types:
# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from vocoder.kernels.invert_flow.triton_kernels import dot, gate_columns, pre_activation


@triton.jit(do_not_specialize=["H", "W", "dilation"])
def layer_forward(
    h,
    cond,
    conv,
    bias,
    cond_weight,
    res,
    res_bias,
    gate,
    out,
    h_next,
    y,
    a,
    H,
    W,
    dilation,
    scale,
    C: tl.constexpr,
    N_MELS: tl.constexpr,
    N_OUT: tl.constexpr,
    LAST: tl.constexpr,
    SAVE_A: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Compute h_next, y and, for the backward pass, the pre-activation a.

    `res`, `res_bias`, `gate` and `h_next` are None in the last layer; `cond_weight` is None and
    N_MELS 0 where the conditioning comes projected.
    """
    row, item = tl.program_id(0) % H, tl.program_id(1)
    cols = tl.program_id(0) // H * BLOCK_W + tl.arange(0, BLOCK_W)
    channels, gates, k = tl.arange(0, C), tl.arange(0, 2 * C), tl.arange(0, BLOCK_K)
    inside = (cols < W)[:, None]
    here = (item * H + row).to(tl.int64) * W  # of the row's first column
    K_STEPS: tl.constexpr = C // BLOCK_K
    acc = pre_activation(bias, cond, cond_weight, item, row, H, W, cols, C, N_MELS)
    for step in tl.range(0, 9 * K_STEPS):
        tap = step // K_STEPS
        channel = (step % K_STEPS) * BLOCK_K
        up = 2 - tap // 3
        at = cols + (tap % 3 - 1) * dilation
        rows = tl.load(
            h + (here - up * W) * C + at[:, None] * C + (channel + k)[None, :],
            mask=((at >= 0) & (at < W) & (row >= up))[:, None],
            other=0.0,
        )
        weight = tl.load(conv + (tap * C + channel + k)[:, None] * (2 * C) + gates[None, :])
        acc = dot(rows, weight, acc)
    if SAVE_A:
        at_a = a + here * 2 * C + cols[:, None] * (2 * C) + gates[None, :]
        tl.store(at_a, acc.to(a.dtype.element_ty), mask=inside)
    o = gate_columns(acc, C)
    for n in tl.static_range(N_OUT):
        y_n = tl.sum(o * tl.load(out + N_OUT * channels + n)[None, :], axis=1)
        tl.store(y + (here + cols) * N_OUT + n, y_n, mask=cols < W)
    if not LAST:
        at_h = here * C + cols[:, None] * C + channels[None, :]
        weight = tl.load(res + channels[:, None] * C + channels[None, :])
        r = dot(o.to(weight.dtype), weight, tl.zeros((BLOCK_W, C), tl.float32))
        r = (r + tl.load(res_bias + channels)[None, :]) * tl.load(gate + channels)[None, :]
        old = tl.load(h + at_h, mask=inside, other=0.0).to(tl.float32)
        tl.store(h_next + at_h, ((old + r) * scale).to(h_next.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["H", "W"])
def gate_backward(
    dh_next,
    dy,
    a,
    res,
    gate,
    out,
    da,
    o,
    sums,
    H,
    W,
    scale,
    C: tl.constexpr,
    N_OUT: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Compute da, the gradient of the pre-activation, and o again from a.

    `sums` (programs, N_OUT + 3, C) gets what each program adds to the gradients of the columns of
    `out`, of both halves of `bias`, and of `res_bias` but for the factor gate · scale.
    The halves of a are two loads: one joint load and a split spills.
    """
    row, item = tl.program_id(0) % H, tl.program_id(1)
    cols = tl.program_id(0) // H * BLOCK_W + tl.arange(0, BLOCK_W)
    channels = tl.arange(0, C)
    inside = (cols < W)[:, None]
    here = (item * H + row).to(tl.int64) * W
    sums += (item * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * (N_OUT + 3) * C + channels
    do = tl.zeros((BLOCK_W, C), tl.float32)
    if not LAST:
        at_h = here * C + cols[:, None] * C + channels[None, :]
        g = tl.load(dh_next + at_h, mask=inside, other=0.0).to(tl.float32)
        tl.store(sums + (N_OUT + 2) * C, tl.sum(g, axis=0))
        factor = tl.load(gate + channels) * scale
        g = (g * factor[None, :]).to(res.dtype.element_ty)
        weight = tl.load(res + channels[None, :] * C + channels[:, None])  # transposed
        do = dot(g, weight, do)
    for n in tl.static_range(N_OUT):
        dy_n = tl.load(dy + (here + cols) * N_OUT + n, mask=cols < W, other=0.0)
        do += dy_n[:, None] * tl.load(out + N_OUT * channels + n)[None, :]
    at_a = here * 2 * C + cols[:, None] * (2 * C) + channels[None, :]
    u = tl.load(a + at_a, mask=inside, other=0.0).to(tl.float32)
    u = tl.exp(-2.0 * tl.minimum(tl.maximum(u, -15.0), 15.0))
    t = (1.0 - u) / (1.0 + u)
    v = tl.load(a + at_a + C, mask=inside, other=0.0).to(tl.float32)
    s = 1.0 / (1.0 + tl.exp(-tl.maximum(v, -30.0)))
    at_o = here * C + cols[:, None] * C + channels[None, :]
    tl.store(o + at_o, (t * s).to(o.dtype.element_ty), mask=inside)
    for n in tl.static_range(N_OUT):
        dy_n = tl.load(dy + (here + cols) * N_OUT + n, mask=cols < W, other=0.0)
        tl.store(sums + n * C, tl.sum(t * s * dy_n[:, None], axis=0))
    dt, ds = do * s * (1.0 - t * t), do * t * s * (1.0 - s)
    tl.store(da + at_a, dt.to(da.dtype.element_ty), mask=inside)
    tl.store(da + at_a + C, ds.to(da.dtype.element_ty), mask=inside)
    tl.store(sums + N_OUT * C, tl.sum(dt, axis=0))
    tl.store(sums + (N_OUT + 1) * C, tl.sum(ds, axis=0))


@triton.jit(do_not_specialize=["H", "W", "dilation"])
def input_gradient(
    da,
    dh_next,
    conv,
    dh,
    H,
    W,
    dilation,
    scale,
    C: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Compute dh: the transposed convolution of da, plus what passes the residual sum."""
    row, item = tl.program_id(0) % H, tl.program_id(1)
    cols = tl.program_id(0) // H * BLOCK_W + tl.arange(0, BLOCK_W)
    channels, k = tl.arange(0, C), tl.arange(0, BLOCK_K)
    inside = (cols < W)[:, None]
    here = (item * H + row).to(tl.int64) * W
    K_STEPS: tl.constexpr = 2 * C // BLOCK_K
    acc = tl.zeros((BLOCK_W, C), tl.float32)
    for step in tl.range(0, 9 * K_STEPS):
        tap = step // K_STEPS
        channel = (step % K_STEPS) * BLOCK_K
        down = 2 - tap // 3
        at = cols - (tap % 3 - 1) * dilation
        rows = tl.load(
            da + (here + down * W) * 2 * C + at[:, None] * (2 * C) + (channel + k)[None, :],
            mask=((at >= 0) & (at < W) & (row + down < H))[:, None],
            other=0.0,
        )
        weight = tl.load(conv + (tap * C + channels)[None, :] * (2 * C) + (channel + k)[:, None])
        acc = dot(rows, weight, acc)
    at_h = here * C + cols[:, None] * C + channels[None, :]
    if not LAST:
        acc += tl.load(dh_next + at_h, mask=inside, other=0.0).to(tl.float32) * scale
    tl.store(dh + at_h, acc.to(dh.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["H", "W", "dilation", "n_tiles", "n_trips"])
def weight_gradient(
    h,
    da,
    dconv,
    H,
    W,
    dilation,
    n_tiles,
    n_trips,
    C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Compute partial sums (n_splits, 9, C, 2C) of the gradient of `conv`.

    A program has one tap and BLOCK_N output channels (axis 0), and the tiles of columns of one
    split (axis 1), n_trips of all n_tiles.
    """
    BLOCKS: tl.constexpr = 2 * C // BLOCK_N
    tap = tl.program_id(0) // BLOCKS
    n = tl.program_id(0) % BLOCKS * BLOCK_N + tl.arange(0, BLOCK_N)
    channels, k = tl.arange(0, C), tl.arange(0, BLOCK_W)
    split = tl.program_id(1)
    up = 2 - tap // 3
    shift = (tap % 3 - 1) * dilation
    per_row = tl.cdiv(W, BLOCK_W)
    acc = tl.zeros((C, BLOCK_N), tl.float32)
    for trip in tl.range(0, n_trips):
        tile = split * n_trips + trip
        line = tile // per_row  # item · H + row
        cols = tile % per_row * BLOCK_W + k
        here = line.to(tl.int64) * W
        wanted = (cols < W) & (tile < n_tiles)
        at = cols + shift
        rows = tl.load(
            h + (here - up * W) * C + at[None, :] * C + channels[:, None],
            mask=(wanted & (at >= 0) & (at < W) & (line % H >= up))[None, :],
            other=0.0,
        )
        gradient = tl.load(
            da + here * 2 * C + cols[:, None] * (2 * C) + n[None, :],
            mask=wanted[:, None],
            other=0.0,
        )
        acc = dot(rows, gradient, acc)
    at_out = (split * 9 + tap) * C * 2 * C + channels[:, None] * (2 * C) + n[None, :]
    tl.store(dconv + at_out, acc)
