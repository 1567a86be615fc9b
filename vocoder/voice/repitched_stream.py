"""A stream of mels that goes on at another pitch, as far behind as the pitch of a frame reaches.

Behind it a frame is told one value more than its mel has bands: the pitch in Hz that it is spoken
at, 0 where there is no voice.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from vocoder.mel.pitch import change_pitch
from vocoder.mel.presets import MelPreset
from vocoder.models.families.voice import PitchedVoice
from vocoder.voice.pitch import scale_pitch
from vocoder.voice.refined_stream import RefinedStream
from vocoder.voice.streaming import BlockStream, StreamPlan

log = logging.getLogger("vocoder")

_BLOCK_FRAMES = 4  # of a causal voice, so that whole ones need no further frames


class RepitchedFrames(BlockStream):
    """Gives frames (M + 1, f) of mels (M, f): of another pitch, and that pitch.

    Args:
        model: The model that tells the pitch of the mels.
        preset: The preset of the mels.
        factor: What the pitch is multiplied by.
    """

    def __init__(self, model: PitchedVoice, preset: MelPreset, factor: float) -> None:
        reach = model.pitch_reach
        plan = StreamPlan(_BLOCK_FRAMES, reach, reach, sight="the pitch alone", exact=True)
        super().__init__(preset.hop_length, plan)
        self.model = model
        self.preset = preset
        self.factor = factor
        self._warned = False

    def speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return frames [start, stop), given the mel from frame `first` on."""
        own = self.model.find_pitch(mel[None]).to(mel.dtype)
        # Only those that are given are changed, and counted.
        block = slice(start - first, stop - first)
        own, mel = own[:, block], mel[:, block]
        new, n_beyond = scale_pitch(self.model, own, self.factor)
        if n_beyond and not self._warned:
            self._warned = True
            log.warning(
                "pitch %g: from frame %d on some would lie beyond the %g to %g Hz of this voice, "
                "and are held there",
                self.factor,
                start,
                *self.model.pitch_range,
            )
        return torch.cat([change_pitch(mel[None], self.preset, own, new)[0], new])


class RepitchedStream:
    """Speaks a stream of mels at another pitch.

    Args:
        frames: What changes the pitch of the mels.
        blocks: The stream that speaks them.

    Attributes:
        plan: The plan of the stream that speaks, with the frames that the pitch waits for.
    """

    def __init__(self, frames: RepitchedFrames, blocks: RefinedStream) -> None:
        self._frames = frames
        self._blocks = blocks
        waits = frames.plan.latency_frames - 1  # until the frames of a block are all there
        self.plan = dataclasses.replace(blocks.plan, after_frames=blocks.plan.after_frames + waits)

    def push(self, mel: Tensor) -> Iterator[Tensor]:
        """Take the next frames (M, f); yield all audio that no later frame can change."""
        for frames in self._frames.push(mel):
            yield from self._blocks.push(frames)

    def finish(self) -> Iterator[Tensor]:
        """Yield the audio that is left, when no more frames will come."""
        for frames in self._frames.finish():
            yield from self._blocks.push(frames)
        yield from self._blocks.finish()


SpeakingStream = RefinedStream | RepitchedStream
