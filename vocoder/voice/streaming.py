"""Speech while its mel arrives: blocks of frames on a grid of their own, however the mel was cut.

A voice that tells how many frames of mel a sample depends on at most (`VoiceModel.reach`) speaks
each block in a window of its own that holds so many more, which is exact. Better or other ways are
registered for exactly one class of models, in `voice/streams`. All of them take their noise by the
position of the sample in the stream.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset
from vocoder.models.families.voice import PitchedVoice, VoiceModel
from vocoder.registry import ClassRegistry
from vocoder.voice.mel_consistency import reach_frames
from vocoder.voice.noise import Noise
from vocoder.voice.renderer import Renderer

BLOCK_FRAMES = 32  # of windows
Audio = TypeVar("Audio")


@dataclass(frozen=True)
class StreamPlan:
    """How a stream is cut.

    Args:
        block_frames: Frames that are spoken at once.
        before_frames: Frames before a block that are heard with it.
        after_frames: Frames after a block that must be there before it is spoken.
        sight: What the voice sees of its mel, in words, for `vocoder info`.
        exact: Whether the stream is the audio of the whole utterance, up to rounding.
    """

    block_frames: int
    before_frames: int
    after_frames: int
    sight: str
    exact: bool

    @property
    def latency_frames(self) -> int:
        """Frames that must have come before the audio can be played without a gap."""
        return self.block_frames + self.after_frames


class AudioStream(Iterator[Audio]):
    """The audio of an utterance, piece by piece, while its mel arrives.

    Args:
        pieces: The pieces (n,).
        latency_frames: The attribute of this name.

    Attributes:
        latency_frames: Frames of mel that must have come before the audio can be played without a
            gap, if one comes every hop_length samples; computing is on top.
    """

    def __init__(self, pieces: Iterator[Audio], latency_frames: int) -> None:
        self._pieces = pieces
        self.latency_frames = latency_frames

    def __next__(self) -> Audio:
        """Return the next piece."""
        return next(self._pieces)


class Streaming(ABC):
    """How the voices of one class stream."""

    @abstractmethod
    def plan(
        self, model: VoiceModel, block_frames: int | None, overlap_frames: int | None
    ) -> StreamPlan:
        """Return how a voice streams.

        Args:
            model: The model of the voice.
            block_frames: Frames that are spoken at once; None is the default of the voice.
            overlap_frames: Frames of context on both sides of a block; None is the default.

        Raises:
            VocoderError: the voice cannot stream, or not with these numbers.
        """

    @abstractmethod
    def start(
        self, renderer: Renderer, plan: StreamPlan, temperature: float, seed: int
    ) -> BlockStream:
        """Return what makes the audio of one stream.

        Args:
            renderer: The renderer of the voice, which holds its model.
            plan: What `plan` returned for this model.
            temperature: Standard deviation of the noise.
            seed: Seed of the noise.
        """


STREAMINGS: ClassRegistry[Streaming] = ClassRegistry("vocoder.voice.streams")


def streaming_of(model: VoiceModel) -> Streaming:
    """Return how a model streams: what is registered for its class, or windows."""
    return STREAMINGS.find(type(model)) or WindowStreaming()


def plan_stream(
    model: VoiceModel, block_frames: int | None = None, overlap_frames: int | None = None
) -> StreamPlan:
    """Return how a voice streams; the arguments are those of `Streaming.plan`.

    Raises:
        VocoderError: a block without frames, a negative overlap, or a voice that cannot stream.
    """
    if block_frames is not None and block_frames < 1:
        raise VocoderError(f"block_frames {block_frames}: must be at least 1")
    if overlap_frames is not None and overlap_frames < 0:
        raise VocoderError(f"overlap_frames {overlap_frames}: must be 0 or more")
    return streaming_of(model).plan(model, block_frames, overlap_frames)


def describe_stream(model: VoiceModel, preset: MelPreset, refine: int = 0) -> dict[str, str]:
    """Return what people ask of a voice before they stream with it, as lines of a table.

    Args:
        model: The model of the voice.
        preset: The preset of its mels.
        refine: The mel-consistency steps of the stream, which lags behind by what they reach ahead.
    """
    try:
        plan = plan_stream(model)
    except VocoderError as error:
        return {"stream": f"none: {error}"}

    def text(frames: int) -> str:
        milliseconds = 1000 * frames * preset.hop_length / preset.sample_rate
        return f"{frames} frames ({milliseconds:.0f} ms)"

    latency = plan.latency_frames + reach_frames(preset, refine)[1]
    return {
        "estimator sees": plan.sight,
        "stream blocks": text(plan.block_frames),
        "stream overlap": (
            f"none: exact; {text(plan.after_frames)} of look-ahead in the mel"
            if plan.exact
            else f"{text(plan.before_frames)} on each side"
        ),
        "stream latency": f"{text(latency)} until the first audio, and computing",
    }


class BlockStream(ABC):
    """Takes the frames of one utterance as they come, and gives its audio block after block.

    The grid of blocks starts with the utterance, and each block waits for the same frames, whatever
    pieces they come in; so the audio does not depend on the pieces.

    Args:
        hop_length: Samples per frame.
        plan: How the stream is cut.
    """

    def __init__(self, hop_length: int, plan: StreamPlan) -> None:
        self.hop_length = hop_length
        self.plan = plan
        self._mel: Tensor | None = None  # (M, F): the frames from `_first` on
        self._first = 0
        self._start = 0  # first frame of the next block

    @torch.no_grad()
    def push(self, mel: Tensor) -> Iterator[Tensor]:
        """Take the next frames (M, f); yield the audio of each block that they complete."""
        # A copy: callers may fill the same array with the next piece.
        self._mel = mel.clone() if self._mel is None else torch.cat([self._mel, mel], dim=1)
        end = self._first + self._mel.shape[1]
        while self._start + self.plan.latency_frames <= end:
            yield self._next(self._start + self.plan.block_frames)

    @torch.no_grad()
    def finish(self) -> Iterator[Tensor]:
        """Yield the audio of the frames that are left, when no more will come."""
        end = self._first + (0 if self._mel is None else self._mel.shape[1])
        while self._start < end:
            yield self._next(min(self._start + self.plan.block_frames, end))

    def _next(self, stop: int) -> Tensor:
        """Return the audio of the block that ends before frame `stop`."""
        assert self._mel is not None
        first = max(self._start - self.plan.before_frames, 0)
        last = stop + self.plan.after_frames
        # A copy, so that its place in memory is the same whatever the pieces were.
        window = self._mel[:, first - self._first : last - self._first].clone()
        audio = self.speak(window, first, self._start, stop)
        self._start = stop
        keep = max(stop - self.plan.before_frames, 0)
        self._mel, self._first = self._mel[:, keep - self._first :], keep
        return audio

    @abstractmethod
    def speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return the audio (N,) of frames [start, stop), given the mel from frame `first` on."""


class WindowStream(BlockStream):
    """Speaks each block in a window of its own.

    From the second block on, the first frame of a block is faded in over what the window before it
    made of that frame.

    Args:
        render: Maps noise (1, N) and a mel (1, M, F) to audio (1, N).
        hop_length: Samples per frame.
        plan: How the stream is cut.
        temperature: Standard deviation of the noise.
        seed: Seed of the noise.
    """

    def __init__(
        self,
        render: Callable[[Tensor, Tensor], Tensor],
        hop_length: int,
        plan: StreamPlan,
        temperature: float,
        seed: int,
    ) -> None:
        super().__init__(hop_length, plan)
        self.render = render
        self.temperature = temperature
        self.noise = Noise(seed)
        self._fading: Tensor | None = None  # the first frame after the last block, as it heard it

    def speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return the audio (N,) of frames [start, stop), given the mel from frame `first` on."""
        hop = self.hop_length
        noise = self.noise.take(first * hop, (first + mel.shape[1]) * hop).to(mel)
        audio = self.render(noise.mul_(self.temperature)[None], mel[None])[0].float()
        rest = (stop - first) * hop
        own = audio[(start - first) * hop : rest].clone()  # without the memory of the whole window
        if self._fading is not None:
            rising = (torch.arange(hop, dtype=own.dtype, device=own.device) + 0.5) / hop
            own[:hop].lerp_(self._fading, 1 - rising)
        self._fading = audio[rest : rest + hop].clone() if len(audio) > rest else None
        return own


class WindowStreaming(Streaming):
    """Windows as wide as the reach of the voice, which give the audio of the whole utterance."""

    def plan(
        self, model: VoiceModel, block_frames: int | None, overlap_frames: int | None
    ) -> StreamPlan:
        """Return windows that hold the reach of the model, or the overlap that is asked for.

        Blocks and overlaps are rounded up to whole cycles of the model.
        """
        block_frames = BLOCK_FRAMES if block_frames is None else block_frames
        cycle = model.frames_per_cycle
        block_frames = math.ceil(block_frames / cycle) * cycle
        reach = model.reach
        if overlap_frames is not None:
            overlap_frames = math.ceil(overlap_frames / cycle) * cycle
            return plan_windows(block_frames, overlap_frames, sight="not told by the model")
        if reach is None:
            raise VocoderError(
                f"a {type(model).__qualname__} does not tell how far it sees (`reach`), so that no "
                "window of its mel is known to be wide enough; synthesize the whole utterance, or "
                "give overlap_frames"
            )
        before, after = reach
        # The frame after a block, which the next one is faded in over, has its reach ahead too.
        return StreamPlan(
            block_frames,
            math.ceil(before / cycle) * cycle,
            after + 1,
            sight=f"{before} frames back and {after} ahead",
            exact=True,
        )

    def start(
        self, renderer: Renderer, plan: StreamPlan, temperature: float, seed: int
    ) -> BlockStream:
        """Return a stream of windows."""
        model = renderer.model
        return WindowStream(
            lambda z, mel: renderer.render(z, condition_on(model, mel), None),
            model.hop_length,
            plan,
            temperature,
            seed,
        )


def split_told(model: PitchedVoice, frames: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the mels (B, M, F) of what a stream is told, and the pitch (B, F) in Hz, if it is.

    Args:
        model: The model that hears them.
        frames: Mels (B, M, F), or (B, M + 1, F) with the pitch behind them, as
            `voice/repitched_stream.py` gives it.
    """
    mel, pitch = frames[:, : model.n_mels], frames[:, model.n_mels :]
    return mel, pitch.squeeze(1) if pitch.shape[1] else None


def condition_on(model: VoiceModel, frames: Tensor) -> Tensor:
    """Return the conditioning of what a stream is told; see `VoiceModel.condition`."""
    if not isinstance(model, PitchedVoice):
        return model.condition(frames)
    mel, f0 = split_told(model, frames)
    return model.condition(mel, None, f0)


def plan_windows(block_frames: int, overlap_frames: int, sight: str) -> StreamPlan:
    """Return a plan of windows with the same overlap on both sides of a block."""
    return StreamPlan(block_frames, overlap_frames, overlap_frames, sight, exact=False)
