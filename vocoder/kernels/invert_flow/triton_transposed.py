"""The Triton kernels of `invert_flow` for short clips: all channels by a few columns.

More programs than those of `triton_kernels` give, which says what a program is and what is held
between launches. The matrix unit wants at least 64 rows; channels as rows leave the columns free to
be few.
"""

# Triton's language has no types:
# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from vocoder.kernels.invert_flow.triton_kernels import dot, gated


@triton.jit
def transposed_pre_activation(
    bias, cond, cond_weight, item, cond_row, H, W, cols, C: tl.constexpr, N_MELS: tl.constexpr
):
    """Return bias plus conditioning (2C, columns) of one row."""
    channels = tl.arange(0, 2 * C)
    inside = (cols < W)[None, :]
    acc = tl.load(bias + channels)[:, None] + tl.zeros((2 * C, cols.shape[0]), tl.float32)
    row = (item * H + cond_row).to(tl.int64) * W
    if N_MELS == 0:
        at = cond + row * 2 * C + cols[None, :] * (2 * C) + channels[:, None]
        acc += tl.load(at, mask=inside, other=0.0).to(tl.float32)
    else:
        bands = tl.arange(0, 16)
        for start in range(0, N_MELS, 16):
            at = cond + row * N_MELS + cols[None, :] * N_MELS + (start + bands)[:, None]
            mel = tl.load(at, mask=inside, other=0.0)
            weight = tl.load(cond_weight + (start + bands)[None, :] * (2 * C) + channels[:, None])
            acc = dot(weight, mel, acc)
    return acc


@triton.jit
def transposed_taps(
    acc,
    queue,
    conv,
    item,
    row,
    W,
    cols,
    dilation,
    C: tl.constexpr,
    FIRST: tl.constexpr,
    STOP: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Add the taps FIRST to STOP − 1 to acc (2C, columns)."""
    channels = tl.arange(0, 2 * C)
    k = tl.arange(0, BLOCK_K)
    K_STEPS: tl.constexpr = C // BLOCK_K
    for step in tl.range(FIRST * K_STEPS, STOP * K_STEPS):
        tap = step // K_STEPS
        channel = (step % K_STEPS) * BLOCK_K
        slot = (item * 3 + (row + 1 + tap // 3) % 3).to(tl.int64)
        at = cols + (tap % 3 - 1) * dilation
        h = tl.load(
            queue + slot * W * C + at[None, :] * C + (channel + k)[:, None],
            mask=((at >= 0) & (at < W))[None, :],
            other=0.0,
        )
        weight = tl.load(conv + (tap * C + channel + k)[None, :] * (2 * C) + channels[:, None])
        acc = dot(weight, h, acc)
    return acc


@triton.jit(do_not_specialize=["row", "cond_row", "H", "W", "dilation"])
def row_ahead(
    queue,
    partial,
    cond,
    conv,
    bias,
    cond_weight,
    row,
    cond_row,
    H,
    W,
    dilation,
    C: tl.constexpr,
    N_MELS: tl.constexpr,
    N_PAST: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Compute what a layer's row needs of the rows above: partial (B, W, 2C), float32.

    Nothing here waits for the row itself, so it runs beside the layers of the row before.
    """
    item = tl.program_id(1)
    cols = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    channels = tl.arange(0, 2 * C)
    acc = transposed_pre_activation(bias, cond, cond_weight, item, cond_row, H, W, cols, C, N_MELS)
    acc = transposed_taps(
        acc, queue, conv, item, row, W, cols, dilation, C, 3 * (2 - N_PAST), 6, BLOCK_K
    )
    at = partial + item.to(tl.int64) * W * 2 * C + cols[None, :] * (2 * C) + channels[:, None]
    tl.store(at, acc, mask=(cols < W)[None, :])


@triton.jit(do_not_specialize=["row", "cond_row", "H", "W", "dilation"])
def row_layer_transposed(
    queue,
    partial,
    conv,
    next_queue,
    y,
    lengths,
    cond,
    bias,
    cond_weight,
    res,
    res_bias,
    gate,
    out,
    row,
    cond_row,
    H,
    W,
    dilation,
    scale,
    C: tl.constexpr,
    N_MELS: tl.constexpr,
    N_PAST: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Do `row_layer` with all channels by a few columns: more programs for a short clip.

    The matrix unit wants at least 64 rows; channels as rows leave the columns free to be few.
    `partial` is what `row_ahead` computed, or None.
    """
    item = tl.program_id(1)
    n_items = tl.num_programs(1)
    cols = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    inside = cols < W
    if partial is None:
        acc = transposed_pre_activation(
            bias, cond, cond_weight, item, cond_row, H, W, cols, C, N_MELS
        )
        FIRST: tl.constexpr = 3 * (2 - N_PAST)
    else:
        at = item.to(tl.int64) * W * 2 * C + cols[None, :] * (2 * C)
        at += tl.arange(0, 2 * C)[:, None]
        acc = tl.load(partial + at, mask=inside[None, :], other=0.0)
        FIRST: tl.constexpr = 6
    acc = transposed_taps(acc, queue, conv, item, row, W, cols, dilation, C, FIRST, 9, BLOCK_K)

    a, b = tl.split(tl.permute(tl.reshape(acc, (2, C, BLOCK_W)), (1, 2, 0)))
    o = gated(a, b)
    channels = tl.arange(0, C)
    log_s = tl.sum(o * tl.load(out + 2 * channels)[:, None], axis=0)
    t = tl.sum(o * tl.load(out + 2 * channels + 1)[:, None], axis=0)
    at_y = y + ((row % 2) * n_items + item).to(tl.int64) * 2 * W + cols
    tl.store(at_y, log_s + tl.load(at_y, mask=inside, other=0.0), mask=inside)
    tl.store(at_y + W, t + tl.load(at_y + W, mask=inside, other=0.0), mask=inside)
    if not LAST:
        slot = (item * 3 + row % 3).to(tl.int64)
        at = slot * W * C + cols[None, :] * C + channels[:, None]
        h = tl.load(queue + at, mask=inside[None, :], other=0.0).to(tl.float32)
        weight = tl.load(res + channels[None, :] * C + channels[:, None])
        r = dot(weight, o.to(weight.dtype), tl.zeros((C, BLOCK_W), tl.float32))
        r += tl.load(res_bias + channels)[:, None]
        h = (h + r * tl.load(gate + channels)[:, None]) * scale
        h = tl.where((cols < tl.load(lengths + item))[None, :], h, 0.0)
        tl.store(next_queue + at, h.to(weight.dtype), mask=inside[None, :])
