"""A stream of audio that is held to its mel, as far behind the voice as that reaches ahead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from vocoder.mel.presets import MelPreset
from vocoder.voice.mel_consistency import hold_to_mel, reach_frames
from vocoder.voice.streaming import BlockStream


class RefinedStream:
    """Takes the audio of a stream block by block, and gives what `hold_to_mel` makes of the whole.

    Each block is refined in a window that holds all that its samples depend on; so is nothing but
    the end of the audio, which waits for the next block.

    Args:
        blocks: The stream of the voice.
        preset: The preset of its mel.
        steps: How many times the difference to the mel is taken out; 0 passes the audio on.

    Attributes:
        plan: The plan of the voice, with what the steps reach ahead: after
            `plan.latency_frames` the audio can be played without a gap.
    """

    def __init__(self, blocks: BlockStream, preset: MelPreset, steps: int) -> None:
        self._blocks = blocks
        self._preset = preset
        self._steps = steps
        self._before, self._after = reach_frames(preset, steps)
        self.plan = dataclasses.replace(
            blocks.plan, after_frames=blocks.plan.after_frames + self._after
        )
        self._mel: Tensor | None = None  # (M, f): the frames from `_first` on
        self._audio: Tensor | None = None  # (n,): the samples from that frame on
        self._first = 0
        self._start = 0  # first frame that is not yet given

    @torch.no_grad()
    def push(self, mel: Tensor) -> Iterator[Tensor]:
        """Take the next frames (M or M + 1, f); yield all audio that no later frame can change."""
        self._keep(mel)
        for audio in self._blocks.push(mel):
            yield from self._take(audio)

    @torch.no_grad()
    def finish(self) -> Iterator[Tensor]:
        """Yield the audio that is left, when no more frames will come."""
        for audio in self._blocks.finish():
            yield from self._take(audio)
        if self._audio is not None:
            yield from self._give(self._after)

    def _keep(self, mel: Tensor) -> None:
        if self._steps:
            mel = mel[: self._preset.n_mels]  # without the pitch that a voice may be told
            self._mel = mel.clone() if self._mel is None else torch.cat([self._mel, mel], dim=1)

    def _take(self, audio: Tensor) -> Iterator[Tensor]:
        if not self._steps:
            yield audio
            return
        self._audio = audio if self._audio is None else torch.cat([self._audio, audio])
        yield from self._give(0)

    def _give(self, n_settled: int) -> Iterator[Tensor]:
        """Yield the audio up to the reach of the steps before the end, but for frames settled."""
        assert self._audio is not None
        assert self._mel is not None
        hop = self._preset.hop_length
        n_frames = len(self._audio) // hop
        stop = self._first + n_frames - self._after + n_settled
        if stop <= self._start:
            return
        # A copy, so that its place in memory is the same whatever pieces the mel came in.
        mel = self._mel[None, :, :n_frames].clone()
        refined = hold_to_mel(self._audio[None], mel, self._preset, self._steps)[0]
        yield refined[(self._start - self._first) * hop : (stop - self._first) * hop].clone()
        first = max(stop - self._before, self._first)
        self._audio = self._audio[(first - self._first) * hop :].clone()
        self._mel = self._mel[:, first - self._first :].clone()
        self._first, self._start = first, stop
