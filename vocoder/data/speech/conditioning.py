"""What a model is given beside the sound of a corpus: its mels, and its pulses where it asks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vocoder.data.speech.corpus import Corpus, Utterance
from vocoder.errors import VocoderError
from vocoder.nets.pulses import pack_pulses, pulses_of_epochs


class Conditioning:
    """Frames of conditioning as `VoiceModel.forward` takes them.

    Args:
        corpus: The preprocessed corpus to read.
        pitch_range: The lowest and the highest pitch in Hz that count as a voice; None for a model
            that hears the mel alone.

    Raises:
        VocoderError: there is a pitch range, and the corpus has no epochs.
    """

    def __init__(self, corpus: Corpus, pitch_range: tuple[float, float] | None) -> None:
        self.corpus = corpus
        self.pitch_range = pitch_range
        if pitch_range is not None and corpus.manifest.epochs is None:
            raise VocoderError(
                f"{corpus.folder}: holds no epochs, and this model is told where the pulses of the "
                "voice are; preprocess the corpus again, with --epochs, into another folder"
            )

    def frames(self, utterance: Utterance, lo: int = 0, hi: int | None = None) -> Tensor:
        """Return the conditioning (C, hi − lo) of some frames of a clip.

        Args:
            utterance: A clip of the corpus.
            lo: The first frame.
            hi: One past the last frame; None: all that the clip has.
        """
        hi = utterance.n_frames if hi is None else hi
        mel = torch.from_numpy(np.array(self.corpus.mel(utterance)[:, lo:hi], dtype=np.float32))
        if self.pitch_range is None:
            return mel
        lowest, highest = self.pitch_range
        rate, hop = self.corpus.preset.sample_rate, self.corpus.preset.hop_length
        epochs = torch.from_numpy(np.array(self.corpus.epochs(utterance)))
        pulses = pulses_of_epochs(epochs, lo * hop, hi * hop, rate / highest, rate / lowest)
        return torch.cat([mel, pack_pulses(pulses, hop)[0]])
