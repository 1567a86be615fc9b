"""How a model behind a filter streams: as it does alone, and the filter carries its state.

So a stream is as close to the whole as that of the inner model is.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vocoder.models.families.voice import VoiceModel
from vocoder.models.families.whitened import WhitenedVoice
from vocoder.models.whitened import Whitened
from vocoder.voice.renderer import Renderer
from vocoder.voice.renderers.whitened import WhitenedRenderer
from vocoder.voice.streaming import (
    STREAMINGS,
    BlockStream,
    Streaming,
    StreamPlan,
    streaming_of,
)

_FILTER_REACH = 1  # frames on each side that the filters of a frame lie between


class WhitenedStreaming(Streaming):
    """The stream of the inner model, and the filters of the frames that it speaks."""

    def plan(
        self, model: VoiceModel, block_frames: int | None, overlap_frames: int | None
    ) -> StreamPlan:
        """Return how the inner model streams, with the frames that the filters want."""
        assert isinstance(model, Whitened)
        inner = streaming_of(model.excitation).plan(model.excitation, block_frames, overlap_frames)
        return replace(
            inner,
            before_frames=max(inner.before_frames, _FILTER_REACH),
            after_frames=max(inner.after_frames, _FILTER_REACH),
        )

    def start(
        self, renderer: Renderer, plan: StreamPlan, temperature: float, seed: int
    ) -> BlockStream:
        """Return a stream that carries the filter's state beside the stream of the inner model."""
        assert isinstance(renderer, WhitenedRenderer)
        streaming = streaming_of(renderer.model.excitation)
        return WhitenedStream(
            renderer, streaming.start(renderer.excitation, plan, temperature, seed), plan
        )


class FilteringStream(BlockStream):
    """A stream whose last step is the filter.

    Args:
        renderer: The renderer of the voice.
        excitation: The stream of the flow behind the filter.
        plan: How the stream is cut.
    """

    def __init__(
        self, renderer: WhitenedRenderer, excitation: BlockStream, plan: StreamPlan
    ) -> None:
        super().__init__(renderer.model.hop_length, plan)
        self.renderer = renderer
        self.excitation = excitation
        self._state: Tensor | None = None  # of the filter, after the last block

    def filter(self, excitation: Tensor, mel: Tensor, offset: int) -> Tensor:
        """Map the excitation (1, N) of the next samples to audio (N,); see `filter_on`."""
        model: WhitenedVoice = self.renderer.model
        if self._state is None:
            self._state = excitation.new_zeros(1, model.config.order)
        audio = model.filter_on(excitation, mel, offset, self._state, self.renderer.synthesise)
        return audio[0].float()


class WhitenedStream(FilteringStream):
    """Filters what the stream of the inner model gives."""

    def speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return the audio (N,) of frames [start, stop), given the mel from frame `first` on."""
        excitation = self.excitation.speak(mel, first, start, stop)[None].to(mel.dtype)
        return self.filter(excitation, mel[None], (start - first) * self.hop_length)


STREAMINGS.register(Whitened)(WhitenedStreaming())
