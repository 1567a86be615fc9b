"""Computing in the type that a voice was loaded with, whatever its caller computes in."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def own_precision(device: torch.device) -> torch.autocast:
    """Return a context in which a caller's autocast has no effect on a device."""
    return torch.autocast(device.type, enabled=False)


def each_in_own_precision(pieces: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield the same, each made in `own_precision`, and handed out in the caller's."""
    while True:
        with own_precision(device):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece
