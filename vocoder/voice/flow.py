"""A trained flow as a voice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vocoder.device import AUTO, check_dtype, resolve_device
from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset
from vocoder.models.families.voice import PitchedVoice, VoiceModel
from vocoder.voice.noise import fill_with_noise
from vocoder.voice.pitch import with_pitch
from vocoder.voice.refined_stream import RefinedStream
from vocoder.voice.renderer import make_fastest_renderer, make_renderer
from vocoder.voice.repitched_stream import RepitchedFrames, RepitchedStream
from vocoder.voice.streaming import BlockStream, plan_stream, streaming_of
from vocoder.voice.vocoder import Vocoder


class FlowVocoder(Vocoder):
    """A trained flow.

    Args:
        model: The trained model; it is folded in a copy, and stays as it is.
        preset: The mel preset that it was trained with.
        name: The name of the voice in messages.
        device: The device to compute on, as `load` takes it.
        dtype: The type to compute in, as `load` takes it.
        backend: The backend that renders, as `load` takes it.
        memory: Bytes to plan a synthesis with, as `load` takes them.

    Attributes:
        model: The folded copy of the model.
        renderer: What turns noise and mels into audio.
    """

    def __init__(
        self,
        model: VoiceModel,
        preset: MelPreset,
        *,
        name: str = "flow",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        backend: str | None = None,
        memory: int | None = None,
    ) -> None:
        super().__init__(preset, name, device, dtype)
        try:
            model.config.check_preset(preset)
        except ValueError as error:
            raise VocoderError(f"{name}: the model {error}; the file is damaged") from None
        self.model = model.fold().to(self.device)
        self._in_fastest_type = dtype == AUTO
        self._wanted = (None if dtype in (None, AUTO) else self.dtype, backend, memory)
        self._make_renderer()

    def to(self, device: str | torch.device) -> FlowVocoder:
        """Return the same voice on another device; this one stays where it is."""
        other = copy.copy(self)
        other.device = resolve_device(device)
        if other._wanted[0] is not None:
            check_dtype(other.device, other._wanted[0])
        other.model = copy.deepcopy(self.model).to(other.device)
        other._make_renderer()
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process is made of: all but what renders."""
        return {name: value for name, value in self.__dict__.items() if name != "renderer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become the voice of that state, and choose anew what renders."""
        self.__dict__.update(state)
        self._make_renderer()

    def _make_renderer(self) -> None:
        if self._in_fastest_type:
            self.renderer = make_fastest_renderer(self.model, *self._wanted[1:])
        else:
            self.renderer = make_renderer(self.model, *self._wanted)
        self.dtype = self.renderer.dtype

    def _render(
        self,
        mel: Tensor,
        frames: Tensor | None,
        temperature: float,
        seeds: Sequence[int],
        f0: Tensor | None = None,
    ) -> Tensor:
        n_samples = mel.shape[-1] * self.hop_length
        noise = torch.empty(len(seeds), n_samples, dtype=torch.float32, device="cpu")
        for item, seed in zip(noise, seeds, strict=True):
            fill_with_noise(item, seed)
        z = noise.to(mel).mul_(temperature)
        if f0 is None:
            cond = self.model.condition(mel, frames)
        else:
            assert isinstance(self.model, PitchedVoice)
            cond = self.model.condition(mel, frames, f0)
        return self.renderer.render(z, cond, frames)

    def check_control(self) -> None:
        """Refuse to speak at another pitch, where the model is not told it."""
        if not isinstance(self.model, PitchedVoice):
            super().check_control()

    def _with_pitch(
        self, mel: Tensor, frames: Tensor | None, f0: Tensor | None, factor: float
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(self.model, PitchedVoice)
        return with_pitch(self.model, mel, self.preset, frames, f0, factor)

    def _repitched(self, blocks: RefinedStream, factor: float) -> RepitchedStream:
        assert isinstance(self.model, PitchedVoice)
        return RepitchedStream(RepitchedFrames(self.model, self.preset, factor), blocks)

    def _start_stream(
        self,
        temperature: float,
        seed: int,
        block_frames: int | None,
        overlap_frames: int | None,
    ) -> BlockStream:
        plan = plan_stream(self.model, block_frames, overlap_frames)
        return streaming_of(self.model).start(self.renderer, plan, temperature, seed)
