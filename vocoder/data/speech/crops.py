"""Random aligned crops of mels and audio: the batch of a step is a pure function of its number."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.data.speech.conditioning import Conditioning
from vocoder.data.speech.corpus import Corpus, Utterance
from vocoder.errors import VocoderError

log = logging.getLogger("vocoder")


# The crops of a batch lie in one epoch, or in two that follow; another order for each would take a
# millisecond of 100,000 utterances.
@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n_utterances: int) -> npt.NDArray[np.int64]:
    """Return the order of the utterances in an epoch, a permutation (n_utterances,)."""
    order = np.random.default_rng((seed, 0, epoch)).permutation(n_utterances)
    order.setflags(write=False)
    return order


@dataclass(frozen=True)
class Batch:
    """Crops that are ready for a model.

    Args:
        audio: (B, N) in [−1, 1).
        cond: The conditioning (B, C, F), with frames of context on each side.
        offset: samples from the start of the first frame to the first sample.
        history: The audio (B, P) before the crops; None for a model that asks for none.
    """

    audio: Tensor
    cond: Tensor
    offset: int
    history: Tensor | None

    def for_model(self) -> tuple[Any, ...]:
        """Return what `VoiceModel.forward` takes, in its order."""
        own = (self.audio, self.cond, self.offset)
        return own if self.history is None else (*own, self.history)


class Crops:
    """Random crops of the training split, every utterance once an epoch.

    A crop of the mel, not the mel of a crop: the frames are those of the whole clip, and those on
    each side that a model reaches come along. No sampler state exists that a resumed run
    would have to restore: utterance and position follow from the seed and the step alone.

    Args:
        corpus: a preprocessed corpus.
        segment_length: samples per crop N.
        seed: Seed of order and positions.
        context: frames before and after a crop that come along.
        history: Samples before a crop that come along; silence stands before a clip.
        pitch_range: The pitches in Hz that a model is told of, as `Conditioning` takes them.
    """

    def __init__(
        self,
        corpus: Corpus,
        segment_length: int,
        seed: int,
        context: tuple[int, int] = (1, 1),
        history: int = 0,
        pitch_range: tuple[float, float] | None = None,
    ) -> None:
        self.corpus = corpus
        self.segment_length = segment_length
        self.seed = seed
        self.context = context
        self.history = history
        self.conditioning = Conditioning(corpus, pitch_range)
        self.hop_length = corpus.preset.hop_length
        self.frames = -(-segment_length // self.hop_length)
        everything = corpus.utterances("train")
        if not everything:
            raise VocoderError(
                f"{corpus.folder}: holds no training clips; it was preprocessed to judge by alone"
            )
        self.utterances = [u for u in everything if self._room(u) > 0]
        if not self.utterances:
            seconds = (self.frames + sum(context)) * self.hop_length / corpus.preset.sample_rate
            raise VocoderError(
                f"{corpus.folder}: no training clip is {seconds:.2f} s long; "
                "lower train.segment_length"
            )
        if len(self.utterances) < len(everything):
            log.warning(
                "%d of %d training clips are shorter than a segment and left out",
                len(everything) - len(self.utterances),
                len(everything),
            )

    def _room(self, utterance: Utterance) -> int:
        """Return how many places a crop can start at, its frames of context included."""
        before, after = self.context
        end = min(utterance.n_frames - after, utterance.n_samples // self.hop_length)
        return end - self.frames - before + 1

    def batch(self, step: int, batch_size: int, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return this process's share of the joint batch of a step, counted from 0.

        Args:
            step: the optimiser step.
            batch_size: crops of all processes together; a multiple of `n_ranks`.
            rank: Number of this process.
            n_ranks: Number of all processes.
        """
        share = batch_size // n_ranks
        first = step * batch_size + rank * share
        crops = [self._crop(index) for index in range(first, first + share)]
        audio, cond = (torch.stack(part) for part in zip(*crops, strict=True))
        past, own = audio.split([self.history, self.segment_length], dim=1)
        offset = self.context[0] * self.hop_length
        return Batch(own, cond, offset, past if self.history else None)

    def _crop(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the audio of a crop with its history, and its conditioning."""
        epoch, position = divmod(index, len(self.utterances))
        order = _order(self.seed, epoch, len(self.utterances))
        utterance = self.utterances[order[position]]
        before, after = self.context
        start = before + int(
            np.random.default_rng((self.seed, 1, index)).integers(self._room(utterance))
        )
        begin = start * self.hop_length
        first = begin - self.history
        audio = self.corpus.audio(utterance)[max(first, 0) : begin + self.segment_length]
        audio = np.pad(audio.astype(np.float32) / 32768, (max(-first, 0), 0))
        cond = self.conditioning.frames(utterance, start - before, start + self.frames + after)
        return torch.from_numpy(audio), cond
