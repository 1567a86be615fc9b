"""Hugging Face: `model.generate_speech(..., vocoder=HuggingFaceVocoder(voice))`, and pipelines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vocoder.adapters.base import Adapter, float_tensor
from vocoder.mel.presets import MelPreset
from vocoder.voice.vocoder import Vocoder


@dataclass(frozen=True)
class VocoderConfig:
    """What pipelines read in `vocoder.config`."""

    sampling_rate: int  # Hz
    model_in_dim: int  # bands


class HuggingFaceVocoder(Adapter):
    """A vocoder for `SpeechT5ForTextToSpeech` and for `TextToAudioPipeline`.

    Args:
        voice: A voice, such as `vocoder.load` returns.
        preset: Preset of the model's mels.
        temperature: Standard deviation of the noise.
        seed: Seed of the noise.
        pitch: Factor of the pitch, for voices that know it.
    """

    def __init__(
        self,
        voice: Vocoder,
        preset: MelPreset | str = "speecht5-16k",
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        pitch: float = 1.0,
    ) -> None:
        super().__init__(voice, preset, temperature=temperature, seed=seed, pitch=pitch)
        self.config = VocoderConfig(voice.sample_rate, self.preset.n_mels)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Turn mels (F, M) or (B, F, M) into audio (N,) or (B, N).

        A batch comes without its lengths, padded with frames of zeros, which in a logarithmic mel
        are loud. Frames of zeros at the end are taken for that padding, and become silence.
        """
        mel = float_tensor(spectrogram).mT
        if mel.ndim == 2:
            return self.speak(mel)
        return self.speak(mel, _without_zero_frames(mel))


def _without_zero_frames(mel: Tensor) -> Tensor:
    """Return how many frames (B,) of mels (B, M, F) are left without the zeros at the end."""
    used = (mel != 0).any(dim=1).int()
    at_end = used.flip(-1).cumsum(dim=-1).eq(0).sum(dim=-1)
    return (mel.shape[-1] - at_end).clamp_min(1)
