"""A trained flow as a voice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.kernels.invert_flow.causal import CausalInverter
from vocoder.mel.presets import MelPreset
from vocoder.models.families.row_flow import RowFlow
from vocoder.voice.noise import fill_with_noise
from vocoder.voice.row_renderers import CausalRenderer, make_renderer
from vocoder.voice.streaming import BlockStream, CausalStream, WindowStream, plan_stream
from vocoder.voice.vocoder import Vocoder


class FlowVocoder(Vocoder):
    """A trained flow.

    Args:
        model: folded here, in a copy; the model itself stays as it is.
        preset: what it was trained with.
        name: for messages.
        device: see `load`, as are the others.
        dtype: to compute in.
        backend: what computes.
        memory: bytes for a synthesis.

    Attributes:
        model: the folded copy.
        renderer: what computes.
    """

    def __init__(
        self,
        model: RowFlow,
        preset: MelPreset,
        *,
        name: str = "flow",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        backend: str | None = None,
        memory: int | None = None,
    ) -> None:
        super().__init__(preset, name, device, dtype)
        for field in ("n_mels", "hop_length"):
            if getattr(model, field) != getattr(preset, field):
                raise VocoderError(
                    f"{name}: {field} is {getattr(model, field)} in the model and "
                    f"{getattr(preset, field)} in its preset {preset.name}; the file is damaged"
                )
        self.model = model.fold().to(self.device)
        wanted = None if dtype is None else self.dtype
        self.renderer = make_renderer(self.model, wanted, backend, memory)
        self.dtype = self.renderer.dtype

    def _render(
        self, mel: Tensor, frames: Tensor | None, temperature: float, seeds: Sequence[int]
    ) -> Tensor:
        n_samples = mel.shape[-1] * self.hop_length
        noise = torch.empty(len(seeds), n_samples)
        for item, seed in zip(noise, seeds, strict=True):
            fill_with_noise(item, seed)
        z = noise.to(mel).mul_(temperature)
        return self.renderer.render(z, mel, frames)

    def _start_stream(
        self,
        temperature: float,
        seed: int,
        block_frames: int | None,
        overlap_frames: int | None,
    ) -> BlockStream:
        plan = plan_stream(self.model, block_frames, overlap_frames)
        if plan.overlap_frames is None:
            renderer = self.renderer
            if isinstance(renderer, CausalRenderer):
                inverter = renderer.inverter
            else:
                inverter = CausalInverter(renderer.model.pack_flows())
            return CausalStream(renderer.model, inverter, plan, temperature, seed)

        def render(z: Tensor, mel: Tensor) -> Tensor:
            return self.renderer.render(z, mel, None)

        return WindowStream(render, self.hop_length, plan, temperature, seed)
