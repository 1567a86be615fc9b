"""The fast renderer of voices behind a filter: that of the flow within, and then the filter."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from torch import Tensor

from vocoder.flows.linear_prediction import Filters, synthesise
from vocoder.kernels.dispatch import REFERENCE
from vocoder.kernels.lattice import synthesise_on_cpu
from vocoder.models.families.voice import VoiceModel
from vocoder.models.families.whitened import Synthesise, WhitenedVoice
from vocoder.models.sourceflow import SourceFlow
from vocoder.models.whitened import Whitened
from vocoder.voice.renderer import RENDERERS, Renderer, make_renderer
from vocoder.voice.renderers.row_flow import make_row_renderer


class WhitenedRenderer(Renderer):
    """Renders the excitation as its own flow is, and filters it in at least float32.

    Args:
        model: The folded model, on its device.
        excitation: The renderer of the flow behind the filter.
    """

    model: WhitenedVoice

    def __init__(self, model: WhitenedVoice, excitation: Renderer) -> None:
        wide = torch.promote_types(excitation.dtype, torch.float32)
        super().__init__(model.to(wide), excitation.dtype)
        self.backend = excitation.backend
        self.excitation = excitation
        on_cpu = next(model.parameters()).device.type == "cpu" and self.backend != REFERENCE
        loops = on_cpu and importlib.util.find_spec("numba") is not None  # librosa brings it
        self.synthesise: Synthesise = _synthesise_on_cpu if loops else synthesise

    def render(self, z: Tensor, cond: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N)."""
        excitation = self.excitation.render(z, cond, frames).to(cond.dtype)
        return self.model.filter(excitation, cond, frames, self.synthesise)


def _synthesise_on_cpu(z: Tensor, filters: Filters, state: Tensor) -> tuple[Tensor, Tensor]:
    """Do `synthesise` by one loop over the samples of each item."""
    reflections, deviations = filters.reflections.numpy(), filters.deviations.numpy()
    after = state.numpy().copy()
    items = zip(z.numpy(), reflections, deviations, after, strict=True)
    sound = np.stack([synthesise_on_cpu(*item) for item in items])
    return torch.from_numpy(sound), torch.from_numpy(after)


@RENDERERS.register(SourceFlow)
def make_source_renderer(
    model: VoiceModel, dtype: torch.dtype | None, backend: str, memory: int | None
) -> Renderer:
    """Return the renderer of a SourceFlow; see `RendererMaker`."""
    assert isinstance(model, SourceFlow)
    return WhitenedRenderer(model, make_row_renderer(model.excitation, dtype, backend, memory))


@RENDERERS.register(Whitened)
def make_whitened_renderer(
    model: VoiceModel, dtype: torch.dtype | None, backend: str, memory: int | None
) -> Renderer:
    """Return the renderer of a model behind a filter; see `RendererMaker`."""
    assert isinstance(model, Whitened)
    return WhitenedRenderer(model, make_renderer(model.excitation, dtype, backend, memory))
