"""torchaudio's Tacotron 2 bundles: `waveforms, lengths = vocoder(specgrams, lengths)`."""

from __future__ import annotations

import torch
from torch import Tensor

from vocoder.adapters.base import Adapter
from vocoder.mel.presets import MelPreset
from vocoder.voice.batches import Lengths
from vocoder.voice.vocoder import Vocoder


class TorchaudioVocoder(Adapter):
    """What `bundle.get_vocoder()` returns, by the protocol of `Tacotron2TTSBundle.Vocoder`.

    Args:
        voice: A voice, such as `vocoder.load` returns.
        preset: Preset of the pipeline's mels. The default is that of the GRIFFINLIM bundles;
            "torchaudio-wavernn-22k" is that of the WAVERNN bundles.
        temperature: Standard deviation of the noise.
        seed: Seed of the noise.
        pitch: Factor of the pitch, for voices that know it.
    """

    def __init__(
        self,
        voice: Vocoder,
        preset: MelPreset | str = "torchaudio-tacotron2-22k",
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        pitch: float = 1.0,
    ) -> None:
        super().__init__(voice, preset, temperature=temperature, seed=seed, pitch=pitch)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.voice.sample_rate

    def forward(
        self, specgrams: Tensor, lengths: Lengths | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Turn mels (B, M, F) of `lengths` (B,) frames into audio (B, N) and lengths in samples.

        torchaudio's own Griffin-Lim hands the lengths in frames through.
        """
        audio = self.speak(specgrams, lengths)
        if lengths is None:
            return audio, None
        # Of their own type, samples could overflow where frames do not.
        return audio, torch.as_tensor(lengths, dtype=torch.int64) * self.voice.hop_length
