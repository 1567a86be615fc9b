"""What every flow model can do, whatever it models."""

from __future__ import annotations

import copy
import math
from abc import ABC
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vocoder.device import multiplies_bf16
from vocoder.flows.linear import initialise
from vocoder.models.families.empty import without_memory

Self = TypeVar("Self", bound="FlowModel")


class FlowModel(nn.Module, ABC):
    """An exact-likelihood model: x ↔ z with z ~ N(0, 1).

    Its two families, `VoiceModel` and `ImageFlow`, say what `forward`, `inverse`, `log_prob` and
    `sample` take: a voice is given a mel-spectrogram, and a model of images nothing.
    """

    config: Any
    # Keep only what enters each flow step for the backward pass and compute the rest anew there:
    # less memory for about a third more time.
    checkpointing: bool = False
    # Whether weight norm is folded into plain weights, so that the model cannot be trained on.
    is_folded: bool = False

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def gains_from_bf16_on_cpu(self) -> bool:
        """Whether training in bfloat16 is faster on a CPU too, where that multiplies in it."""
        return False

    def gains_from_bf16(self, device: torch.device) -> bool:
        """Tell whether bfloat16 is faster on a device: on a GPU, or a CPU, that computes in it."""
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return device.type == "cpu" and self.gains_from_bf16_on_cpu and multiplies_bf16()

    def initialise(self, *batch: Tensor | int) -> None:
        """Let the layers that start from data do so from what `forward` takes; most have none."""
        initialise(self, *batch)

    def fold(self: Self) -> Self:
        """Return a frozen copy for inference: weight norm folded into plain weights.

        The copy computes the same function with the published inference-time parameter count.
        """
        if self.is_folded:
            return copy.deepcopy(self)
        # A deep copy shares the classes that parametrizations make, and unfolding it would strip
        # the original too; hence a new model.
        with without_memory():
            model = type(self)(self.config)
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        model.load_state_dict(state, assign=True)
        for module in list(model.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
                # It translates the names of weight norm, which is gone, and cannot be pickled.
                module._load_state_dict_pre_hooks.clear()
                model.is_folded = True
        return model.eval().requires_grad_(False)

    def n_parameters(self, effective: bool = False) -> int:
        """Return the number of parameters; if `effective`, without those that nothing depends on.

        A layer that stores such parameters tells their number as `n_dead_parameters`.
        """
        total = sum(parameter.numel() for parameter in self.parameters())
        if not effective:
            return total
        return total - sum(getattr(module, "n_dead_parameters", 0) for module in self.modules())


def nats_per_dim(z: Tensor, logdet: Tensor) -> Tensor:
    """Return the negative log-likelihood of a batch in nats per dimension.

    Args:
        z: Noise of any shape, the first dimension the batch.
        logdet: Log-determinants (B,) of dz/dx in nats.
    """
    return -(standard_normal_log_prob(z).sum() + logdet.sum()) / z.numel()


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Return log N(z; 0, 1) of every element."""
    return -0.5 * (z**2 + math.log(2 * math.pi))
