"""What every flow model can do, on top of `forward` and `inverse`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Self = TypeVar("Self", bound="FlowModel")


class FlowModel(nn.Module, ABC):
    """An exact-likelihood model: x ↔ z with z ~ N(0, 1), given a conditioning."""

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, x: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to (z, logdet); logdet (B,) in nats."""

    @abstractmethod
    def inverse(self, z: Tensor, cond: Tensor) -> Tensor:
        """Map z to data: the exact inverse of `forward`."""

    def log_prob(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return log p(x | cond) in nats, (B,)."""
        z, logdet = self(x, cond)
        return standard_normal_log_prob(z).flatten(1).sum(dim=1) + logdet

    def sample(
        self,
        cond: Tensor,
        *,
        shape: tuple[int, ...],
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw x of `shape` (B, ...) given `cond`, with noise N(0, temperature²)."""
        z = torch.randn(shape, generator=generator, device=cond.device, dtype=cond.dtype)
        return self.inverse(z * temperature, cond)

    def fold(self: Self) -> Self:
        """Return a frozen copy for inference: weight norm folded into plain weights.

        The copy computes the same function with the published inference-time parameter count.
        """
        # A deep copy shares the classes that parametrizations make, and unfolding it would strip
        # the original too; hence a new model.
        with torch.device("meta"):
            model = type(self)(self.config)
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        model.load_state_dict(state, assign=True)
        for module in list(model.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        return model.eval().requires_grad_(False)

    def n_parameters(self) -> int:
        """Return the number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Return log N(z; 0, 1) of every element."""
    return -0.5 * (z**2 + math.log(2 * math.pi))
