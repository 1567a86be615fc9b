"""How SourceFlow streams: its NanoFlow as any other, between a pitch and a filter that go on.

The filter carries its state and the pulses carry their phase, so that a stream is as close to the
whole as that of the NanoFlow within is.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vocoder.mel.envelope import frame_centre
from vocoder.models.families.voice import VoiceModel
from vocoder.models.sourceflow import SourceFlow
from vocoder.nets.pitch import REACH
from vocoder.nets.pulses import pack_pulses, pulses_of_pitch, unpack
from vocoder.voice.renderer import Renderer
from vocoder.voice.renderers.whitened import WhitenedRenderer
from vocoder.voice.streaming import (
    STREAMINGS,
    BlockStream,
    Streaming,
    StreamPlan,
    split_told,
)
from vocoder.voice.streams.row_flow import RowStreaming
from vocoder.voice.streams.whitened import FilteringStream

# Frames on each side that a sample's pulses depend on: the pitch's, and one to interpolate with.
_PULSE_REACH = REACH + 1


class SourceStreaming(Streaming):
    """The stream of the NanoFlow within, and a pitch that waits for the frames that it reads."""

    def plan(
        self, model: VoiceModel, block_frames: int | None, overlap_frames: int | None
    ) -> StreamPlan:
        """Return how the NanoFlow within streams, with the pitch's frames on both sides."""
        assert isinstance(model, SourceFlow)
        within = RowStreaming().plan(model.excitation, block_frames, overlap_frames)
        return replace(
            within,
            before_frames=within.before_frames + _PULSE_REACH,
            after_frames=within.after_frames + _PULSE_REACH,
            sight=f"{within.sight}; its pitch {_PULSE_REACH} frames back and ahead",
        )

    def start(
        self, renderer: Renderer, plan: StreamPlan, temperature: float, seed: int
    ) -> BlockStream:
        """Return a stream that carries phase and filter beside the stream of the NanoFlow."""
        assert isinstance(renderer, WhitenedRenderer)
        within = replace(
            plan,
            before_frames=plan.before_frames - _PULSE_REACH,
            after_frames=plan.after_frames - _PULSE_REACH,
        )
        excitation = RowStreaming().start(renderer.excitation, within, temperature, seed)
        return SourceStream(renderer, excitation, plan)


class SourceStream(FilteringStream):
    """Tells the stream of the NanoFlow the pulses, and filters what it gives.

    Args:
        renderer: The renderer of the voice.
        excitation: The stream of the NanoFlow within.
        plan: How the stream is cut.
    """

    def __init__(
        self, renderer: WhitenedRenderer, excitation: BlockStream, plan: StreamPlan
    ) -> None:
        super().__init__(renderer, excitation, plan)
        self._phase: Tensor | float = 0.0  # before the first frame that the next block is told

    def speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return the audio (N,) of frames [start, stop), given the mel from frame `first` on."""
        model, hop, within = self.renderer.model, self.hop_length, self.excitation.plan
        assert isinstance(model, SourceFlow)
        lo = max(start - within.before_frames, 0)
        hi = min(stop + within.after_frames, first + mel.shape[1])
        mel, f0 = split_told(model, mel[None])
        pulses = pulses_of_pitch(
            (model.find_pitch(mel) if f0 is None else f0).to(mel.dtype),
            model.config.preset.sample_rate,
            hop,
            frame_centre(model.config.preset),
            self._phase,
            lo - first,
            hi - first,
        )
        following = max(stop - within.before_frames, 0)
        if following > lo:
            self._phase = pulses.phase[:, (following - lo) * hop - 1]
        packed = pack_pulses(pulses, hop, model.config.voiced_noise)
        cond = torch.cat([mel[..., lo - first : hi - first], packed], dim=1)
        excitation = self.excitation.speak(cond[0], lo, start, stop)[None].to(mel.dtype)
        # The filters and shapes of these samples lie between frames that the NanoFlow may not see.
        own = unpack(cond, model.n_mels, (start - lo) * hop, excitation.shape[1])
        told = own._replace(mel=mel)
        offset = (start - first) * hop
        return self.filter(model.likelier(excitation, told, offset), mel, offset)


STREAMINGS.register(SourceFlow)(SourceStreaming())
