"""The slow twin of every renderer: the model's own inverse."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vocoder.kernels.dispatch import (
    REFERENCE,
)
from vocoder.models.families.row_flow import RowFlow


class Renderer(ABC):
    """Maps noise to audio by the inverse of a model.

    Args:
        model: folded, in float32 or float64, on its device.
        dtype: what to compute in.
    """

    backend: str

    def __init__(self, model: RowFlow, dtype: torch.dtype) -> None:
        self.model = model
        self.dtype = dtype

    @abstractmethod
    def render(self, z: Tensor, mel: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N).

        Args:
            z: noise (B, N), float32 or float64; may be overwritten.
            mel: (B, M, F), of z's type, with N = F · hop.
            frames: (B,), the items' own lengths, beyond which anything may stand; None: all are F.
        """

    def _columns(self, frames: Tensor) -> Tensor:
        return frames * (self.model.hop_length // self.model.config.n_height)


class ReferenceRenderer(Renderer):
    """`model.inverse`, which defines the others. Takes any dtype, any transform, any device."""

    backend = REFERENCE

    def __init__(self, model: RowFlow, dtype: torch.dtype) -> None:
        # The model given stays in its own type, for whoever wants likelihoods of it.
        own = model if next(model.parameters()).dtype == dtype else copy.deepcopy(model)
        super().__init__(own.to(dtype), dtype)

    def render(self, z: Tensor, mel: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N)."""
        return self.model.inverse(z.to(self.dtype), mel.to(self.dtype), lengths=frames)
