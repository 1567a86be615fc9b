"""Speech while its mel arrives: blocks of frames on a grid of their own, however the mel was cut.

A voice of symmetric estimators depends on some 20 s to each side, but on nearly all of it hardly at
all: it speaks each block with `overlap_frames` of context on both sides, and neighbours are faded
into each other. A causal voice needs no such compromise: it carries the state of its estimators
from block to block, and knows the future no further than `lookahead_frames` of mel. Both take
their noise by the position of the sample in the stream.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.flows.reshape import fold_rows
from vocoder.kernels.invert_flow.causal import COLUMNS, CausalInverter
from vocoder.mel.presets import MelPreset
from vocoder.models.families.row_flow import RowFlow
from vocoder.nets.wavenet2d import WaveNet2d
from vocoder.voice.noise import Noise

BLOCK_FRAMES = 32  # of windows
CAUSAL_BLOCK_FRAMES = 4  # of a causal voice, whose blocks cost no more work than the whole
OVERLAP_REACHES = 2  # of the estimator; from the curve in docs/streaming.md


@dataclass(frozen=True)
class StreamPlan:
    """How a stream is cut.

    Args:
        block_frames: frames spoken at once.
        overlap_frames: frames of context of a block on both sides; None: the voice is causal and
            its state is carried on, which is exact.
        lookahead_frames: frames after a block that must be there before it is spoken.
    """

    block_frames: int
    overlap_frames: int | None
    lookahead_frames: int

    @property
    def latency_frames(self) -> int:
        """Frames that must have come before the first audio leaves."""
        return self.block_frames + self.lookahead_frames


def plan_stream(
    model: RowFlow, block_frames: int | None = None, overlap_frames: int | None = None
) -> StreamPlan:
    """Return how a voice streams.

    Args:
        model: of the voice.
        block_frames: None is 4 for causal voices and 32 for others.
        overlap_frames: None is the default, twice what the estimator sees and what the upsampler
            does; causal voices have none.

    Raises:
        VocoderError: a block without frames, a negative overlap, or one of a causal voice.
    """
    if block_frames is not None and block_frames < 1:
        raise VocoderError(f"block_frames {block_frames}: must be at least 1")
    if streams_exactly(model):
        if overlap_frames is not None:
            raise VocoderError(
                f"overlap_frames {overlap_frames}: this voice is causal and its blocks need no "
                "overlap; leave it out"
            )
        return StreamPlan(
            CAUSAL_BLOCK_FRAMES if block_frames is None else block_frames,
            None,
            model.config.mel_context[1],
        )
    if overlap_frames is None:
        overlap_frames = (
            math.ceil(OVERLAP_REACHES * estimator_reach(model)) + model.upsample.context
        )
    if overlap_frames < 0:
        raise VocoderError(f"overlap_frames {overlap_frames}: must be 0 or more")
    block_frames = BLOCK_FRAMES if block_frames is None else block_frames
    return StreamPlan(block_frames, overlap_frames, overlap_frames)


def estimator_reach(model: RowFlow) -> float:
    """Return how many frames a symmetric estimator sees to each side, in each row of each flow."""
    net: WaveNet2d = model.nets[0]  # type: ignore[assignment]
    columns = sum(d_w for _, d_w in net.dilations)
    return columns * model.config.n_height / model.hop_length


def describe_stream(model: RowFlow, preset: MelPreset) -> dict[str, str]:
    """Return what people ask of a voice before they stream with it."""

    def text(frames: float) -> str:
        milliseconds = 1000 * frames * preset.hop_length / preset.sample_rate
        return f"{frames:.3g} frames ({milliseconds:.0f} ms)"

    plan = plan_stream(model)
    reach = estimator_reach(model)
    if plan.overlap_frames is None:
        sees = f"{text(2 * reach)} back, for each row of each flow"
        overlap = f"none: causal, and exact; {text(plan.lookahead_frames)} of look-ahead in the mel"
    else:
        sees = f"{text(reach)} back and ahead, for each row of each flow"
        overlap = f"{text(plan.overlap_frames)} on each side"
    return {
        "estimator sees": sees,
        "stream blocks": text(plan.block_frames),
        "stream overlap": overlap,
        "stream latency": f"{text(plan.latency_frames)} until the first audio, and computing",
    }


def streams_exactly(model: RowFlow) -> bool:
    """Tell whether a voice is causal, and of the affine flows that the row op knows."""
    return model.causal and model.config.transform == "affine"


class BlockStream(ABC):
    """Takes the frames of one utterance as they come, and gives its audio block after block.

    The grid of blocks starts with the utterance, and each block waits for the same frames, whatever
    pieces they come in; so the audio does not depend on the pieces.

    Args:
        hop_length: samples per frame.
        block_frames: frames of a block.
        before: frames before a block that its audio depends on.
        after: frames after it.
    """

    def __init__(self, hop_length: int, block_frames: int, before: int, after: int) -> None:
        self.hop_length = hop_length
        self.block_frames = block_frames
        self.before, self.after = before, after
        self._mel: Tensor | None = None  # (M, F): the frames from `_first` on
        self._first = 0
        self._start = 0  # first frame of the next block

    @torch.inference_mode()
    def push(self, mel: Tensor) -> Iterator[Tensor]:
        """Take the next frames (M, f); yield the audio of each block that they complete."""
        # A copy: callers may fill the same array with the next piece.
        self._mel = mel.clone() if self._mel is None else torch.cat([self._mel, mel], dim=1)
        end = self._first + self._mel.shape[1]
        while self._start + self.block_frames + self.after <= end:
            yield self._next(self._start + self.block_frames)

    @torch.inference_mode()
    def finish(self) -> Iterator[Tensor]:
        """Yield the audio of the frames that are left, when no more will come."""
        end = self._first + (0 if self._mel is None else self._mel.shape[1])
        while self._start < end:
            yield self._next(min(self._start + self.block_frames, end))

    def _next(self, stop: int) -> Tensor:
        """Return the audio of the block that ends before frame `stop`."""
        assert self._mel is not None
        first = max(self._start - self.before, 0)
        # A copy, so that its place in memory is the same whatever the pieces were.
        window = self._mel[:, first - self._first : stop + self.after - self._first].clone()
        audio = self._speak(window, first, self._start, stop)
        self._start = stop
        keep = max(stop - self.before, 0)
        self._mel, self._first = self._mel[:, keep - self._first :], keep
        return audio

    @abstractmethod
    def _speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return the audio (N,) of frames [start, stop), given the mel from frame `first` on."""


class WindowStream(BlockStream):
    """Speaks each block in a window of its own; for voices that see to both sides.

    From the second block on, the first frame of a block is faded in over what the window before it
    made of that frame.

    Args:
        render: maps noise (1, N) and a mel (1, M, F) to audio (1, N).
        hop_length: samples per frame.
        plan: with an overlap.
        temperature: standard deviation of the noise.
        seed: of the noise.
    """

    def __init__(
        self,
        render: Callable[[Tensor, Tensor], Tensor],
        hop_length: int,
        plan: StreamPlan,
        temperature: float,
        seed: int,
    ) -> None:
        overlap = plan.overlap_frames or 0
        super().__init__(hop_length, plan.block_frames, overlap, overlap)
        self.render = render
        self.temperature = temperature
        self.noise = Noise(seed)
        self._fading: Tensor | None = None  # the first frame after the last block, as it heard it

    def _speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        hop = self.hop_length
        noise = self.noise.take(first * hop, (first + mel.shape[1]) * hop).to(mel)
        audio = self.render(noise.mul_(self.temperature)[None], mel[None])[0].float()
        rest = (stop - first) * hop
        own = audio[(start - first) * hop : rest].clone()  # without the memory of the whole window
        if self._fading is not None:
            rising = (torch.arange(hop, device=own.device) + 0.5) / hop
            own[:hop].lerp_(self._fading, 1 - rising)
        self._fading = audio[rest : rest + hop].clone() if len(audio) > rest else None
        return own


class CausalStream(BlockStream):
    """Carries the state of a causal voice from block to block.

    Args:
        model: folded, causal.
        inverter: of its flows.
        plan: without an overlap.
        temperature: standard deviation of the noise.
        seed: of the noise.
    """

    def __init__(
        self,
        model: RowFlow,
        inverter: CausalInverter,
        plan: StreamPlan,
        temperature: float,
        seed: int,
    ) -> None:
        super().__init__(model.hop_length, plan.block_frames, *model.config.mel_context)
        self.model = model
        self.temperature = temperature
        self.noise = Noise(seed)
        self.n_height, self.dtype = inverter.n_height, inverter.dtype
        self._inversion = inverter.start(
            min(plan.block_frames * self.hop_length // self.n_height, COLUMNS)
        )

    def _speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        hop, H = self.hop_length, self.n_height
        mel = mel.to(self.dtype)
        audio = self.noise.take(start * hop, stop * hop).to(mel).mul_(self.temperature)
        begin = (start - first) * hop // H

        def cond(lo: int, hi: int) -> Tensor:
            return self.model.conditioning(mel[None], begin + lo, begin + hi)[0]

        self._inversion.invert_in_place(fold_rows(audio, H), cond)
        return audio.float()
