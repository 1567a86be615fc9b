"""The optimiser, the learning rate's schedule and the averaged weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from vocoder.recipe import TrainConfig

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
}


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of the parameters of `model`."""
    optimizer = _OPTIMIZERS[config.optimizer]
    return optimizer(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step, counted from 0.

    It rises linearly over the first `warmup_steps`, and is multiplied by gamma every so many steps.
    """
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return rise * config.lr * config.lr_decay_gamma ** (step // config.lr_decay_steps)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the exponential moving average of the weights towards those of `model`.

    The average of the first steps is over few weights, so that the initial ones are soon forgotten:
    the decay is at most (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
