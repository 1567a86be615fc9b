"""How a voice turns noise and mels into audio: by its own inverse, or by a faster twin of it.

A faster renderer is registered for exactly one class of models. Every other class, so also a
subclass that adds a step, is rendered by its own `inverse`, which defines all renderers.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.kernels.dispatch import (
    AUTO,
    REFERENCE,
    BackendError,
    check_name,
    log_choice,
    requested,
)
from vocoder.models.families.voice import VoiceModel
from vocoder.registry import ClassRegistry


class Renderer(ABC):
    """Maps noise to audio by the inverse of a model, given its conditioning.

    Args:
        model: The folded model, in float32 or float64, on its device.
        dtype: The type to compute in.
    """

    backend: str

    def __init__(self, model: VoiceModel, dtype: torch.dtype) -> None:
        self.model = model
        self.dtype = dtype

    @abstractmethod
    def render(self, z: Tensor, cond: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N).

        Args:
            z: Noise (B, N), float32 or float64; it may be overwritten.
            cond: What `model.condition` gave (B, C, F), of the type of z, with N = F · hop_length.
            frames: The items' own lengths (B,), beyond which anything may stand; None: all are F.
        """


class ReferenceRenderer(Renderer):
    """`model.inverse`, which defines the others. Takes any model, any type and any device."""

    backend = REFERENCE

    def __init__(self, model: VoiceModel, dtype: torch.dtype) -> None:
        # The model given stays in its own type, for whoever wants likelihoods of it.
        own = model if next(model.parameters()).dtype == dtype else copy.deepcopy(model)
        super().__init__(own.to(dtype), dtype)

    def render(self, z: Tensor, cond: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N)."""
        return self.model.inverse(z.to(self.dtype), cond.to(self.dtype), lengths=frames)


class RendererMaker(Protocol):
    """Chooses and makes the renderer of one class of models."""

    def __call__(
        self, model: VoiceModel, dtype: torch.dtype | None, backend: str, memory: int | None
    ) -> Renderer:
        """Return a renderer.

        Args:
            model: The folded model, of exactly the class that this maker is registered for.
            dtype: The type that was asked for, or None for the backend's own.
            backend: The name of the backend that was asked for, or "auto".
            memory: The budget in bytes that was asked for, or None.

        Raises:
            BackendError: the backend that was asked for cannot run.
            VocoderError: the budget cannot be kept.
        """


RENDERERS: ClassRegistry[RendererMaker] = ClassRegistry("vocoder.voice.renderers")


def make_renderer(
    model: VoiceModel,
    dtype: torch.dtype | None,
    backend: str | None = None,
    memory: int | None = None,
) -> Renderer:
    """Return the fastest renderer that can run, or the one asked for.

    Args:
        model: The folded model, in float32, on its device.
        dtype: The type to compute in. None is float16 for the Triton kernels, which accumulate in
            float32, and float32 for all others.
        backend: "reference", "cpu", "triton" or "auto"; None is what `kernels.use` or the
            environment asks for, and else "auto".
        memory: The CPU's budget in bytes; None is 2 GiB.

    Raises:
        VocoderError: there is no backend of that name, or a budget for one that keeps to none.
        BackendError: the backend that was asked for cannot run.
    """
    wanted = requested() if backend is None else check_name(backend, "backend")
    make = RENDERERS.find(type(model))
    if make is not None:
        return make(model, dtype, wanted, memory)
    name = type(model).__qualname__
    reason = f"nothing but the inverse of the model is registered for exactly the class {name}"
    return make_only_reference(model, dtype, wanted, memory, reason)


def make_fastest_renderer(
    model: VoiceModel, backend: str | None = None, memory: int | None = None
) -> Renderer:
    """Return the fastest renderer in whichever type, which on some CPUs is bfloat16.

    Args:
        model: The folded model, in float32, on its device.
        backend: The name of the backend that was asked for, as `make_renderer` takes it.
        memory: The CPU's budget in bytes; None is 2 GiB.

    Raises:
        VocoderError: there is no backend of that name, or a budget for one that keeps to none.
        BackendError: the backend that was asked for cannot run.
    """
    device = next(model.parameters()).device
    if device.type == "cpu" and model.gains_from_bf16(device):
        with suppress(VocoderError):  # what cannot be kept to in bfloat16 may be in float32
            renderer = make_renderer(model, torch.bfloat16, backend, memory)
            if renderer.backend != REFERENCE:
                return renderer
    return make_renderer(model, None, backend, memory)


def make_only_reference(
    model: VoiceModel, dtype: torch.dtype | None, backend: str, memory: int | None, reason: str
) -> Renderer:
    """Return the renderer of a model that has no faster one, and say why in the log.

    Args:
        model: The folded model.
        dtype: The type that was asked for, or None for float32.
        backend: The name of the backend that was asked for, or "auto".
        memory: The budget in bytes that was asked for, or None.
        reason: Why no faster renderer fits, for the log and the error.

    Raises:
        BackendError: a faster backend was asked for.
        VocoderError: there is a budget, to which this renderer cannot keep.
    """
    if backend not in (AUTO, REFERENCE):
        raise BackendError(f"backend {backend!r} cannot run: {reason}; use 'auto' or 'reference'")
    log_choice("synthesis", REFERENCE, {"any other backend": reason})
    return make_reference(model, dtype, memory)


def make_reference(model: VoiceModel, dtype: torch.dtype | None, memory: int | None) -> Renderer:
    """Return the renderer of any model, in float32 unless another type is asked for.

    Raises:
        VocoderError: there is a budget, to which it cannot keep.
    """
    if memory is not None:
        raise VocoderError(
            "memory: the plain path of this voice keeps to no budget; leave it out, or use an "
            "affine voice in float32 or float64 on a CPU"
        )
    return ReferenceRenderer(model, torch.float32 if dtype is None else dtype)
