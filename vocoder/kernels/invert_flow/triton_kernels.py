"""The Triton kernels of `triton_launch`: one launch for each layer of each row.

Seen so far: right in Triton's interpreter, and compiled for sm_80, sm_89 and sm_90 without spills.
Nothing here has run on a GPU yet.

A program has one item (axis 1 of the grid) and one tile of columns (axis 0). `row` counts the
network's rows; z, x and cond keep theirs in natural order, and get the natural row as an argument.
What is held between launches:

- queue (B · 3, W, C), one for each layer but the first: its newest input rows, slot = row mod 3
  (row r overwrites r − 3, last read two rows ago). Columns beyond an item's end hold zeros.
- y (2, B, 2, W) float32 = (log_s, t), by parity of the row: the opener of the next row reads
  columns to each side while their own programs already write the next y.
"""

# Triton's language has no types:
# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)

# What the opener takes as the network's newest row.
ZERO = tl.constexpr(0)  # nothing: a row of zeros starts the flow
COPY = tl.constexpr(1)  # a row of z as it is: the first row of a passthrough flow
AFFINE = tl.constexpr(2)  # a row of z, transformed by what the row before it gave


@triton.jit
def dot(a, b, acc):
    """Return acc + a @ b, accumulated in float32."""
    if INTERPRETED:  # its product takes bfloat16 for integers
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc)


@triton.jit
def gated(a, b):
    """Return tanh(a) · sigmoid(b) as one fraction; the clamps keep it from overflowing."""
    u = tl.exp(-2.0 * tl.minimum(tl.maximum(a, -15.0), 15.0))
    v = tl.exp(-tl.maximum(b, -30.0))
    return (1.0 - u) / ((1.0 + u) * (1.0 + v))


@triton.jit
def pre_activation(
    bias, cond, cond_weight, item, cond_row, H, W, cols, C: tl.constexpr, N_MELS: tl.constexpr
):
    """Return bias plus conditioning (columns, 2C) of one row."""
    channels = tl.arange(0, 2 * C)
    inside = (cols < W)[:, None]
    acc = tl.load(bias + channels)[None, :] + tl.zeros((cols.shape[0], 2 * C), tl.float32)
    row = (item * H + cond_row).to(tl.int64) * W
    if N_MELS == 0:
        at = cond + row * 2 * C + cols[:, None] * (2 * C) + channels[None, :]
        acc += tl.load(at, mask=inside, other=0.0).to(tl.float32)
    else:
        bands = tl.arange(0, 16)
        for start in range(0, N_MELS, 16):
            at = cond + row * N_MELS + cols[:, None] * N_MELS + (start + bands)[None, :]
            mel = tl.load(at, mask=inside, other=0.0)
            weight = tl.load(cond_weight + (start + bands)[:, None] * (2 * C) + channels[None, :])
            acc = dot(mel, weight, acc)
    return acc


@triton.jit
def gate_columns(acc, C: tl.constexpr):
    """Return o (columns, C) of pre-activations (columns, [tanh | sigmoid])."""
    # Both halves of a channel lie in one thread: the split moves nothing.
    a, b = tl.split(tl.permute(tl.reshape(acc, (acc.shape[0], 2, C)), (0, 2, 1)))
    return gated(a, b)


@triton.jit
def project_columns(o, out, C: tl.constexpr):
    """Return what o (columns, C) adds to log_s and to t."""
    channels = tl.arange(0, C)
    log_s = tl.sum(o * tl.load(out + 2 * channels)[None, :], axis=1)
    t = tl.sum(o * tl.load(out + 2 * channels + 1)[None, :], axis=1)
    return log_s, t


@triton.jit
def store_columns(
    o, h, next_queue, res, res_bias, gate, scale, slot, W, cols, length, C: tl.constexpr
):
    """Store (h + gate · (o @ res + res_bias)) · scale; zeros beyond the item's end."""
    channels = tl.arange(0, C)
    weight = tl.load(res + channels[:, None] * C + channels[None, :])
    r = dot(o.to(weight.dtype), weight, tl.zeros((cols.shape[0], C), tl.float32))
    r += tl.load(res_bias + channels)[None, :]
    h = (h + r * tl.load(gate + channels)[None, :]) * scale
    h = tl.where((cols < length)[:, None], h, 0.0)
    at = next_queue + slot * W * C + cols[:, None] * C + channels[None, :]
    tl.store(at, h.to(weight.dtype), mask=(cols < W)[:, None])


@triton.jit
def new_values(z, y, item, row, z_row, H, W, cols, wanted, INPUT: tl.constexpr):
    """Return the network's newest row at `cols`, zero where not `wanted`."""
    if INPUT == ZERO:
        return tl.zeros(cols.shape, tl.float32)
    value = tl.load(z + (item * H + z_row).to(tl.int64) * W + cols, mask=wanted, other=0.0)
    if INPUT == AFFINE:
        n_items = tl.num_programs(1)
        at = y + (((row + 1) % 2) * n_items + item).to(tl.int64) * 2 * W + cols
        log_s = tl.load(at, mask=wanted, other=0.0)
        t = tl.load(at + W, mask=wanted, other=0.0)
        value = (value - t) * tl.exp(-log_s)
    return value


@triton.jit(do_not_specialize=["row", "z_row", "H", "W"])
def row_close(z, x, y, lengths, row, z_row, H, W, INPUT: tl.constexpr, BLOCK_W: tl.constexpr):
    """Store the last row of x, which the network does not read."""
    item = tl.program_id(1)
    cols = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    wanted = cols < tl.load(lengths + item)
    value = new_values(z, y, item, row, z_row, H, W, cols, wanted, INPUT)
    tl.store(x + (item * H + z_row).to(tl.int64) * W + cols, value, mask=cols < W)


@triton.jit(do_not_specialize=["row", "z_row", "row_1", "row_2", "cond_row", "H", "W", "dilation"])
def row_open(
    z,
    x,
    y,
    lengths,
    cond,
    next_queue,
    taps,
    bias,
    cond_weight,
    front_weight,
    front_bias,
    res,
    res_bias,
    gate,
    out,
    out_bias,
    row,
    z_row,
    row_1,
    row_2,
    cond_row,
    H,
    W,
    dilation,
    scale,
    C: tl.constexpr,
    N_MELS: tl.constexpr,
    N_PAST: tl.constexpr,
    INPUT: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Make the network's input row, store it to x, and run layer 0 on it.

    z_row, row_1, row_2 are the natural rows of inputs r, r − 1 and r − 2; negative: a row of zeros.
    """
    item = tl.program_id(1)
    n_items = tl.num_programs(1)
    cols = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    length = tl.load(lengths + item)
    own = new_values(z, y, item, row, z_row, H, W, cols, cols < length, INPUT)
    if INPUT != ZERO:
        tl.store(x + (item * H + z_row).to(tl.int64) * W + cols, own, mask=cols < W)

    # 9 values, what rounding them to the operands' type loses, 9 flags, 5 zeros.
    k = tl.arange(0, 32)[None, :]
    part, tap = k // 9, k % 9
    j = tap // 3
    at = cols[:, None] + (tap % 3 - 1) * dilation
    inside = (at >= 0) & (at < length) & (j >= 2 - N_PAST) & (part < 3)
    past_row = tl.where(j == 0, row_2, row_1)
    past = tl.load(
        x + (item * H + past_row).to(tl.int64) * W + at,
        mask=inside & (j < 2) & (past_row >= 0),
        other=0.0,
    )
    new = new_values(z, y, item, row, z_row, H, W, at, inside & (j == 2), INPUT)
    value = tl.where(j == 2, new, past)
    high = value.to(taps.dtype.element_ty).to(tl.float32)
    operand = tl.where(part == 0, high, tl.where(part == 1, value - high, 1.0))
    operand = tl.where(inside, operand, 0.0).to(taps.dtype.element_ty)

    channels = tl.arange(0, 2 * C)
    weight = tl.load(taps + tl.arange(0, 32)[:, None] * (2 * C) + channels[None, :])
    acc = pre_activation(bias, cond, cond_weight, item, cond_row, H, W, cols, C, N_MELS)
    o = gate_columns(dot(operand, weight, acc), C)
    log_s, t = project_columns(o, out, C)
    at_y = y + ((row % 2) * n_items + item).to(tl.int64) * 2 * W + cols
    tl.store(at_y, log_s + tl.load(out_bias), mask=cols < W)
    tl.store(at_y + W, t + tl.load(out_bias + 1), mask=cols < W)
    if not LAST:
        half = tl.arange(0, C)
        h = own[:, None] * tl.load(front_weight + half)[None, :]
        h += tl.load(front_bias + half)[None, :]
        slot = (item * 3 + row % 3).to(tl.int64)
        store_columns(o, h, next_queue, res, res_bias, gate, scale, slot, W, cols, length, C)


@triton.jit(do_not_specialize=["row", "cond_row", "H", "W", "dilation"])
def row_layer(
    queue,
    queue_tiles,
    conv,
    conv_tiles,
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
    """Run one layer on one row: a tile of columns by all channels.

    `queue_tiles` and `conv_tiles` are descriptors of queue (B · 3, W, C) and conv (9C, 2C), where
    the card copies tiles by itself, or None.
    """
    item = tl.program_id(1)
    n_items = tl.num_programs(1)
    start = tl.program_id(0) * BLOCK_W
    cols = start + tl.arange(0, BLOCK_W)
    channels = tl.arange(0, 2 * C)
    k = tl.arange(0, BLOCK_K)
    K_STEPS: tl.constexpr = C // BLOCK_K
    FIRST: tl.constexpr = 3 * (2 - N_PAST) * K_STEPS
    acc = pre_activation(bias, cond, cond_weight, item, cond_row, H, W, cols, C, N_MELS)
    for step in tl.range(FIRST, 9 * K_STEPS):
        tap = step // K_STEPS
        channel = (step % K_STEPS) * BLOCK_K
        slot = item * 3 + (row + 1 + tap // 3) % 3
        shift = (tap % 3 - 1) * dilation
        if queue_tiles is None:
            at = cols + shift
            h = tl.load(
                queue + slot.to(tl.int64) * W * C + at[:, None] * C + (channel + k)[None, :],
                mask=((at >= 0) & (at < W))[:, None],
                other=0.0,
            )
            weight = tl.load(conv + (tap * C + channel + k)[:, None] * (2 * C) + channels[None, :])
        else:
            h = tl.reshape(queue_tiles.load([slot, start + shift, channel]), (BLOCK_W, BLOCK_K))
            weight = conv_tiles.load([tap * C + channel, 0])
        acc = dot(h, weight, acc)

    o = gate_columns(acc, C)
    log_s, t = project_columns(o, out, C)
    at_y = y + ((row % 2) * n_items + item).to(tl.int64) * 2 * W + cols
    inside = cols < W
    tl.store(at_y, log_s + tl.load(at_y, mask=inside, other=0.0), mask=inside)
    tl.store(at_y + W, t + tl.load(at_y + W, mask=inside, other=0.0), mask=inside)
    if not LAST:
        slot = (item * 3 + row % 3).to(tl.int64)
        at = queue + slot * W * C + cols[:, None] * C + tl.arange(0, C)[None, :]
        h = tl.load(at, mask=inside[:, None], other=0.0).to(tl.float32)
        length = tl.load(lengths + item)
        store_columns(o, h, next_queue, res, res_bias, gate, scale, slot, W, cols, length, C)
