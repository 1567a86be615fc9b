"""Code written for WaveGlow: `audio = waveglow.infer(mel, sigma=0.6)`."""

from __future__ import annotations

from torch import Tensor

from vocoder.adapters.base import Adapter
from vocoder.mel.presets import MelPreset
from vocoder.voice.vocoder import Vocoder


class WaveGlowVocoder(Adapter):
    """A stand-in for NVIDIA's WaveGlow, as Tacotron 2, Flowtron and Mellotron call it.

    Args:
        voice: A voice, such as `vocoder.load` returns.
        preset: Preset of the mels.
        seed: Seed of the noise; its temperature is `sigma`.
        pitch: Factor of the pitch, for voices that know it.
    """

    def __init__(
        self,
        voice: Vocoder,
        preset: MelPreset | str = "tacotron2-22k",
        *,
        seed: int | None = None,
        pitch: float = 1.0,
    ) -> None:
        super().__init__(voice, preset, seed=seed, pitch=pitch)

    def infer(self, spect: Tensor, sigma: float = 1.0) -> Tensor:
        """Turn mels (B, M, F) into audio (B, N), with noise of standard deviation `sigma`."""
        return self.speak(spect, temperature=sigma)
