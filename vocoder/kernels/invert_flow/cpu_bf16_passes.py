"""Passes over memory between the products of a row step in bfloat16 on a CPU, each in one loop.

What takes several tensors with columns beside those that are meant gets them whole, in one
dimension, with the numbers that an item takes there and the number at which its columns begin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vocoder.kernels.bf16 import bits, compiled_sum, narrow, sigmoid, wide


def gate(a: Tensor, cond: Tensor, bias: Tensor, out: Tensor, o: Tensor, y: Tensor) -> None:
    """Write o = tanh · sigmoid of a + cond + bias, whose tanh half comes doubled, and y = o @ out.

    Args:
        a: Outputs (n, 2C) of the convolution, bfloat16.
        cond: The projected conditioning (n, 2C), bfloat16.
        bias: What is added in every row, (2C,), float32.
        out: The projection (2, C), float32.
        o: Room for (n, C), bfloat16.
        y: Room for (n, 2), float32.
    """
    arrays = bias.numpy(), out.view(-1).numpy(), bits(o), y.view(-1).numpy()
    _gate(bits(a), bits(cond), *arrays, len(bias) // 2)


def join(h: Tensor, first: int, r: Tensor, bias: Tensor) -> None:
    """Add r + bias to the columns of h from `first` on.

    Args:
        h: The residual stream (B, columns, C), float32 and contiguous.
        first: column of h that r begins at.
        r: What is added, (B, n, C), bfloat16.
        bias: What is added in every column, (C,), float32.
    """
    _, n, C = r.shape
    _join(h.view(-1).numpy(), first * C, h.stride(0), bits(r), n * C, bias.numpy())


def push(h: Tensor, first: int, n: int, ring: Tensor, column: int, slot: int) -> None:
    """Round n columns of h into one slot of a ring of rows.

    Args:
        h: The residual stream (B, columns, C), float32 and contiguous.
        first: the first of the columns.
        n: how many columns there are.
        ring: The rows side by side, (B, columns, rows, C), bfloat16.
        column: Column of the ring at which they go.
        slot: which of the rows.
    """
    _, n_columns, n_rows, C = ring.shape
    start = (column * n_rows + slot) * C
    strides = h.stride(0), n_columns * n_rows * C, n_rows * C
    _push(h.view(-1).numpy(), first * C, bits(ring), start, *strides, n, C)


@compiled_sum
def _gate(a: Any, cond: Any, bias: Any, out: Any, o: Any, y: Any, n_channels: Any) -> None:
    C = np.uint64(n_channels)
    for i_ in range(np.uint64(len(o)) // C):
        i = np.uint64(i_)
        first = i * C
        second = np.uint64(2) * first
        for c in range(C):
            j = np.uint64(c)
            k, m = second + j, second + C + j
            tanh = np.float32(2) * sigmoid(wide(a[k]) + wide(cond[k]) + bias[j]) - np.float32(1)
            o[first + j] = narrow(tanh * sigmoid(wide(a[m]) + wide(cond[m]) + bias[C + j]))
        log_s = t = np.float32(0)
        for c in range(C):
            j = np.uint64(c)
            log_s += wide(o[first + j]) * out[j]
            t += wide(o[first + j]) * out[C + j]
        y[np.uint64(2) * i] = log_s
        y[np.uint64(2) * i + np.uint64(1)] = t


@compiled_sum
def _join(h: Any, first: Any, stride: Any, r: Any, size: Any, bias: Any) -> None:
    C, n = np.uint64(len(bias)), np.uint64(size)
    for b in range(np.uint64(len(r)) // n):
        to, start = np.uint64(first) + np.uint64(b) * np.uint64(stride), np.uint64(b) * n
        for i in range(n // C):
            k = np.uint64(i) * C
            for c in range(C):
                j = np.uint64(c)
                h[to + k + j] += wide(r[start + k + j]) + bias[j]


@compiled_sum
def _push(
    h: Any, first: Any, ring: Any, start: Any, stride: Any, item: Any, column: Any, n: Any, C: Any
) -> None:
    for b in range(np.uint64(len(ring)) // np.uint64(item)):
        read = np.uint64(first) + np.uint64(b) * np.uint64(stride)
        write = np.uint64(start) + np.uint64(b) * np.uint64(item)
        for i in range(np.uint64(n)):
            k, m = read + np.uint64(i) * np.uint64(C), write + np.uint64(i) * np.uint64(column)
            for c in range(np.uint64(C)):
                j = np.uint64(c)
                ring[m + j] = narrow(h[k + j])
