"""The optimiser and its state, the learning rate, the precision and the averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from vocoder.errors import VocoderError
from vocoder.models.families.flow import FlowModel
from vocoder.recipe import TrainConfig

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),  # a fifth of the time, for many small tensors
    "adamax": torch.optim.Adamax,
}
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of the parameters of `model`."""
    optimizer = _OPTIMIZERS[config.optimizer]
    return optimizer(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser as tensors named "index of the parameter.key"."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, values in state.items() for key, value in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` gave; rate and weight decay stay those of `optimizer`.

    Raises:
        ValueError: The tensors are not those of such an optimiser.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = tensor
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, moments in state.items():
        for key, tensor in moments.items():
            if tensor.ndim and tensor.shape != parameters[i].shape:
                raise ValueError(f"{i}.{key} has shape {tuple(tensor.shape)}")
    if len({tuple(sorted(moments)) for moments in state.values()}) > 1:
        raise ValueError("some moments are missing")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def precision(name: str, device: torch.device, model: FlowModel) -> str:
    """Return in what the convolutions are computed; all else is in float32.

    Args:
        name: "float32", "bf16", "fp16", or "auto": bf16 where the model gains from it.
        device: Device on which the model is trained.
        model: The model that is trained.

    Returns:
        A name in `PRECISIONS`.

    Raises:
        VocoderError: fp16 on a CPU.
    """
    if name == "auto":
        return "bf16" if model.gains_from_bf16(device) else "float32"
    if name == "fp16" and device.type == "cpu":
        raise VocoderError("train.precision: fp16 needs a GPU; use float32 or bf16")
    return name


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
