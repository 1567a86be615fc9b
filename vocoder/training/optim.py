"""The learning rate's schedule and the averaged weights."""

from __future__ import annotations

import torch
from torch import nn

from vocoder.recipe import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step, counted from 0: multiplied by gamma every so many steps."""
    return config.lr * config.lr_decay_gamma ** (step // config.lr_decay_steps)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the exponential moving average of the weights towards those of `model`.

    The average of the first steps is over few weights, so that the initial ones are soon forgotten:
    the decay is at most (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
