"""Passes over memory between the products of a layer in bfloat16 on a CPU, each in one loop.

Products are so cheap there that what torch would do between them, one pass over memory for each sum
and each function, would take most of the time.

All tensors are bfloat16 and contiguous, biases and their gradients float32. Sums and functions are
computed in float32, and each result is rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vocoder.kernels.bf16 import bits, compiled, narrow, sigmoid, wide


def gate(a: Tensor, cond: Tensor, bias: Tensor, gates: Tensor, o: Tensor) -> None:
    """Write t = tanh and s = sigmoid of a + cond + bias into gates, and t · s into o.

    Args:
        a: Outputs (n, 2C) of the convolution, the tanh half first.
        cond: The projected conditioning (n, 2C).
        bias: What is added in every row, (2C,).
        gates: Room for t and s side by side, (n, 2C).
        o: Room for their product (n, C).
    """
    _gate(bits(a), bits(cond), bias.detach().numpy(), bits(gates), bits(o), len(bias) // 2)


def gate_gradient(do: Tensor, gates: Tensor, da: Tensor, o: Tensor, dbias: Tensor) -> None:
    """Write the gradient by a of `gate` into da, and o again; add its sum to that by the bias.

    Args:
        do: The gradient (n, C) by o.
        gates: What `gate` wrote, (n, 2C).
        da: Room for the gradient (n, 2C).
        o: Room for the product (n, C) of the gates.
        dbias: Gradient by the bias (2C,), added to.
    """
    _gate_gradient(bits(do), bits(gates), bits(da), bits(o), dbias.numpy(), len(dbias) // 2)


def add(x: Tensor, scale: float, y: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write scale · x + y + bias into out.

    Args:
        x: The first summand (n, C).
        scale: factor of x.
        y: The second summand (n, C).
        bias: What is added in every row, (C,).
        out: Room for the sum (n, C).
    """
    _add(bits(x), np.float32(scale), bits(y), bias.detach().numpy(), bits(out))


@compiled
def _gate(a: Any, cond: Any, bias: Any, gates: Any, o: Any, n_channels: Any) -> None:
    C = np.uint64(n_channels)
    for i in range(np.uint64(len(o)) // C):
        first = np.uint64(i) * C
        second = np.uint64(2) * first
        for c in range(C):
            j = np.uint64(c)
            k, m = second + j, second + C + j
            t = np.float32(2) * sigmoid(
                np.float32(2) * (wide(a[k]) + wide(cond[k]) + bias[j])
            ) - np.float32(1)
            s = sigmoid(wide(a[m]) + wide(cond[m]) + bias[C + j])
            gates[k], gates[m], o[first + j] = narrow(t), narrow(s), narrow(t * s)


@compiled
def _gate_gradient(do: Any, gates: Any, da: Any, o: Any, dbias: Any, n_channels: Any) -> None:
    C = np.uint64(n_channels)
    for i in range(np.uint64(len(o)) // C):
        first = np.uint64(i) * C
        second = np.uint64(2) * first
        for c in range(C):
            j = np.uint64(c)
            k, m = second + j, second + C + j
            g, t, s = wide(do[first + j]), wide(gates[k]), wide(gates[m])
            dt = g * s * (np.float32(1) - t * t)
            ds = g * t * s * (np.float32(1) - s)
            o[first + j], da[k], da[m] = narrow(t * s), narrow(dt), narrow(ds)
            dbias[j] += dt
            dbias[C + j] += ds


@compiled
def _add(x: Any, scale: Any, y: Any, bias: Any, out: Any) -> None:
    C = np.uint64(len(bias))
    for i in range(np.uint64(len(out)) // C):
        first = np.uint64(i) * C
        for c in range(C):
            j = np.uint64(c)
            k = first + j
            out[k] = narrow(scale * wide(x[k]) + wide(y[k]) + bias[j])
