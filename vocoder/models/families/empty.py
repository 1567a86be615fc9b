"""Models without memory for their tensors, to be filled or only counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def without_memory() -> Iterator[None]:
    """Build the modules of a block on the device "meta", where tensors have a shape alone."""
    with torch.device("meta"), _ShapesOfNorms():
        yield


class _ShapesOfNorms(TorchFunctionMode):
    """Gives the norms of a weight-normed layer by their shape.

    On that device torch finds it by means that import its compiler and sympy, which took a third of
    the time from the start to the first sound.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not torch.norm_except_dim:
            return func(*args, **(kwargs or {}))
        weight, _, dim = args
        shape = [1] * weight.ndim
        shape[dim] = weight.shape[dim]
        return weight.new_empty(shape)
