"""What every flow step is."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, ParamSpec

import torch
from torch import Tensor, nn

P = ParamSpec("P")


class Bijection(nn.Module, ABC, Generic[P]):
    """An invertible map of x to z.

    What else it is given is the subclass's to say, by its type parameter: a conditioning, or the
    estimator that computes its parameters. The estimator is an argument and not a part, so that
    several steps can share one (NanoFlow, NeurIPS 2020, §3) and each still reads as a whole.
    """

    @abstractmethod
    def forward(self, x: Tensor, *given: P.args, **named: P.kwargs) -> tuple[Tensor, Tensor]:
        """Map data to latent; return (z, logdet), logdet (B,) = log|det dz/dx| in nats."""

    @abstractmethod
    def inverse(self, z: Tensor, *given: P.args, **named: P.kwargs) -> Tensor:
        """Map latent to data: the exact inverse of `forward`."""


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in the precision of the tensors: neither in autocast's nor, as cuDNN may, in TF32.

    Torch lets cuDNN round the factors of float32 convolutions to 10 bits by default, with which a
    flow no longer inverts. The setting is the whole process's, so that threads share it; a backward
    pass that runs after the context keeps the caller's, as gradients can.

    Args:
        device: Device of the computation, for autocast.
    """
    # Not `allow_tf32`, which raises where the caller has set this newer switch.
    cudnn = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # a module that is replaced
    before = cudnn.fp32_precision
    cudnn.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        cudnn.fp32_precision = before
