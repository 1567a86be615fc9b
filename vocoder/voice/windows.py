"""Renderers that work in windows on a CPU, so that memory does not grow with the length.

A flow of couplings sees a bounded number of columns to each side, so that a window with so many
more around it gives what the whole would. What stands between two of them is the samples alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.kernels.dispatch import AUTO, REFERENCE, log_choice
from vocoder.models.families.voice import VoiceModel
from vocoder.voice.renderer import Renderer, make_only_reference, make_reference

CPU = "cpu"
DEFAULT_MEMORY = 2**28  # bytes


class WindowRenderer(Renderer):
    """The inverse of a model in windows, item by item.

    Args:
        model: The folded model, on a CPU, in `dtype`.
        dtype: float32 or float64.
        window: The length of a window, beside what is seen around it.
    """

    backend = CPU
    largest: ClassVar[int]  # window, beyond which nothing is gained
    smallest: ClassVar[int]  # window, below which most of the work is its surroundings

    def __init__(self, model: VoiceModel, dtype: torch.dtype, window: int) -> None:
        super().__init__(model, dtype)
        self.window = window

    @torch.no_grad()
    def render(self, z: Tensor, cond: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N), in the memory of z."""
        lengths = [cond.shape[-1]] * len(z) if frames is None else frames.tolist()
        for item, mel, n in zip(z, cond, lengths, strict=True):
            self.render_item(item[: n * self.model.hop_length], mel[:, :n])
        return z

    @abstractmethod
    def render_item(self, z: Tensor, mel: Tensor) -> None:
        """Turn the noise z (N,) into audio, given its mel (M, F)."""

    @classmethod
    @abstractmethod
    def bytes_for(cls, model: VoiceModel, window: int, itemsize: int) -> int:
        """Return the memory that a window takes, beside weights, mel and samples.

        Args:
            model: The model that is rendered.
            window: The length of the window.
            itemsize: Bytes of a number.
        """


def make_window_renderer(
    kind: type[WindowRenderer],
    model: VoiceModel,
    dtype: torch.dtype | None,
    backend: str,
    memory: int | None,
    unknown: str | None = None,
) -> Renderer:
    """Return a renderer of windows, or the plain one where it cannot run; see `RendererMaker`.

    Args:
        kind: The class of the renderer.
        model: The folded model.
        dtype: The type that was asked for, or None.
        backend: The name of the backend that was asked for, or "auto".
        memory: The budget in bytes that was asked for, or None.
        unknown: What of this model the fast path does not know, in words; None: nothing.

    Raises:
        BackendError: a backend was asked for that cannot run.
        VocoderError: the budget cannot be kept.
    """
    if backend == REFERENCE:
        return make_reference(model, dtype, memory)
    name, reason = type(model).__qualname__, unknown
    if next(model.parameters()).device.type != "cpu" or backend not in (AUTO, CPU):
        reason = f"what is faster than the inverse of a {name} runs on a CPU alone"
    elif dtype not in (None, torch.float32, torch.float64):
        reason = f"the CPU path of a {name} knows float32 and float64, not {dtype}"
    if reason is not None:
        return make_only_reference(model, dtype, backend, memory, reason)
    log_choice("synthesis", CPU, {})
    dtype = torch.float32 if dtype is None else dtype
    return kind(model.to(dtype), dtype, _window(kind, model, dtype.itemsize, memory))


def _window(
    kind: type[WindowRenderer], model: VoiceModel, itemsize: int, memory: int | None
) -> int:
    """Return the length of a window that keeps to a budget in bytes.

    Raises:
        VocoderError: even the smallest window takes more.
    """
    least, more = (kind.bytes_for(model, kind.smallest + n, itemsize) for n in (0, 1))
    if memory is None:
        memory = max(DEFAULT_MEMORY, least)
    if memory < least:
        raise VocoderError(
            f"memory {memory / 2**20:.0f} MB: this voice takes {math.ceil(least / 2**20)} MB "
            "beside its weights; allow that much (--memory)"
        )
    return min(kind.largest, kind.smallest + (memory - least) // (more - least))


def spans(length: int, window: int) -> list[tuple[int, int]]:
    """Return [lo, hi) of windows that are about equal, and no longer than `window`."""
    each = math.ceil(length / math.ceil(length / max(window, 1)))
    return [(lo, min(lo + each, length)) for lo in range(0, length, each)]
