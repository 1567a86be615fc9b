"""Numbers in bfloat16 inside loops that Numba compiles, which has no such type: their bits.

Numba comes with librosa. It compiles a loop at its first use, in seconds, and keeps it on disk.
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


def bits(tensor: Tensor) -> Any:
    """Return the bits of a bfloat16 tensor, for which NumPy has no type, in one dimension."""
    return tensor.view(-1).view(torch.uint16).numpy()


def compiled(loop: Callable[..., None], *more: str) -> Callable[..., None]:
    """Return a loop that compiles itself, into a cache where one can be kept.

    Args:
        loop: The loop, over arrays in one dimension.
        more: what else the compiler may do, see LLVM's fast-math flags.
    """
    options = _OPTIONS | {"fastmath": _OPTIONS["fastmath"] | set(more)}
    try:
        return numba.njit(cache=True, **options)(loop)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder of a cache can be written to
        return numba.njit(**options)(loop)  # type: ignore[no-any-return]


def compiled_sum(loop: Callable[..., None]) -> Callable[..., None]:
    """Return a loop that compiles itself and may add up in any order; see `compiled`."""
    return compiled(loop, "reassoc")


@_inline  # type: ignore[untyped-decorator]
def wide(bits: Any) -> Any:
    """Return the float32 that the bits stand for."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@_inline  # type: ignore[untyped-decorator]
def narrow(x: Any) -> Any:
    """Round to the nearest, ties to even; what is not a number stays none."""
    bits = np.float32(x).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@_inline  # type: ignore[untyped-decorator]
def sigmoid(x: Any) -> Any:
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
