"""Passes over memory between the products of a layer in bfloat16 on a CPU, each in one loop.

Products are so cheap there that what torch would do between them, one pass over memory for each sum
and each function, would take most of the time. Numba, which librosa brings, compiles each loop at
its first use, in seconds, and keeps it on disk.

All tensors are bfloat16 and contiguous, biases and their gradients float32. Sums and functions are
computed in float32, and each result is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
_inline = numba.njit(inline="always", **_OPTIONS)


def gate(a: Tensor, cond: Tensor, bias: Tensor, gates: Tensor, o: Tensor) -> None:
    """Write t = tanh and s = sigmoid of a + cond + bias into gates, and t · s into o.

    Args:
        a: Outputs (n, 2C) of the convolution, the tanh half first.
        cond: The projected conditioning (n, 2C).
        bias: What is added in every row, (2C,).
        gates: Room for t and s side by side, (n, 2C).
        o: Room for their product (n, C).
    """
    _gate(_bits(a), _bits(cond), bias.detach().numpy(), _bits(gates), _bits(o), len(bias) // 2)


def gate_gradient(do: Tensor, gates: Tensor, da: Tensor, o: Tensor, dbias: Tensor) -> None:
    """Write the gradient by a of `gate` into da, and o again; add its sum to that by the bias.

    Args:
        do: The gradient (n, C) by o.
        gates: What `gate` wrote, (n, 2C).
        da: Room for the gradient (n, 2C).
        o: Room for the product (n, C) of the gates.
        dbias: Gradient by the bias (2C,), added to.
    """
    _gate_gradient(_bits(do), _bits(gates), _bits(da), _bits(o), dbias.numpy(), len(dbias) // 2)


def add(x: Tensor, scale: float, y: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write scale · x + y + bias into out.

    Args:
        x: The first summand (n, C).
        scale: factor of x.
        y: The second summand (n, C).
        bias: What is added in every row, (C,).
        out: Room for the sum (n, C).
    """
    _add(_bits(x), np.float32(scale), _bits(y), bias.detach().numpy(), _bits(out))


def _bits(tensor: Tensor) -> Any:
    """Return the bits of a bfloat16 tensor, for which NumPy has no type, in one dimension."""
    return tensor.view(-1).view(torch.uint16).numpy()


def _compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """Return a loop that compiles itself, into a cache where one can be kept."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(loop)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder of a cache can be written to
        return numba.njit(**_OPTIONS)(loop)  # type: ignore[no-any-return]


@_inline  # type: ignore[untyped-decorator]
def _wide(bits: Any) -> Any:
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@_inline  # type: ignore[untyped-decorator]
def _narrow(x: Any) -> Any:
    """Round to the nearest, ties to even; what is not a number stays none."""
    bits = np.float32(x).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@_inline  # type: ignore[untyped-decorator]
def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + 2^z), z = −x / ln 2, to 3e-6: 2^(z − k) by a polynomial, 2^k by its bits."""
    z = min(max(x, np.float32(-80)), np.float32(80)) * np.float32(-1.44269504)
    k = np.floor(z + np.float32(0.5))
    f = z - k
    p = np.float32(0.00956051) * f + np.float32(0.05591704)
    p = p * f + np.float32(0.24024981)
    p = p * f + np.float32(0.69312197)
    p = p * f + np.float32(0.99999917)
    power = np.uint32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(1) / (np.float32(1) + p * power)


@_compiled
def _gate(a: Any, cond: Any, bias: Any, gates: Any, o: Any, n_channels: Any) -> None:
    C = np.uint64(n_channels)
    for i in range(np.uint64(len(o)) // C):
        first = np.uint64(i) * C
        second = np.uint64(2) * first
        for c in range(C):
            j = np.uint64(c)
            k, m = second + j, second + C + j
            t = np.float32(2) * _sigmoid(
                np.float32(2) * (_wide(a[k]) + _wide(cond[k]) + bias[j])
            ) - np.float32(1)
            s = _sigmoid(_wide(a[m]) + _wide(cond[m]) + bias[C + j])
            gates[k], gates[m], o[first + j] = _narrow(t), _narrow(s), _narrow(t * s)


@_compiled
def _gate_gradient(do: Any, gates: Any, da: Any, o: Any, dbias: Any, n_channels: Any) -> None:
    C = np.uint64(n_channels)
    for i in range(np.uint64(len(o)) // C):
        first = np.uint64(i) * C
        second = np.uint64(2) * first
        for c in range(C):
            j = np.uint64(c)
            k, m = second + j, second + C + j
            g, t, s = _wide(do[first + j]), _wide(gates[k]), _wide(gates[m])
            dt = g * s * (np.float32(1) - t * t)
            ds = g * t * s * (np.float32(1) - s)
            o[first + j], da[k], da[m] = _narrow(t * s), _narrow(dt), _narrow(ds)
            dbias[j] += dt
            dbias[C + j] += ds


@_compiled
def _add(x: Any, scale: Any, y: Any, bias: Any, out: Any) -> None:
    C = np.uint64(len(bias))
    for i in range(np.uint64(len(out)) // C):
        first = np.uint64(i) * C
        for c in range(C):
            j = np.uint64(c)
            k = first + j
            out[k] = _narrow(scale * _wide(x[k]) + _wide(y[k]) + bias[j])
