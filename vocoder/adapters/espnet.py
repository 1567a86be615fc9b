"""ESPnet2: `text2speech.vocoder = EspnetVocoder(voice)`."""

from __future__ import annotations

from torch import Tensor

from vocoder.adapters.base import Adapter, float_tensor
from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset
from vocoder.voice.vocoder import Vocoder

# Of the recipes, by sample rate. In Hz.
_PRESETS = {16000: "espnet-16k", 22050: "pwg-22k", 24000: "pwg-24k"}


class EspnetVocoder(Adapter):
    """The vocoder of an `espnet2.bin.tts_inference.Text2Speech`.

    Text2Speech hands over what its normaliser was undone from; leave its `prefer_normalized_feats`
    False.

    Args:
        voice: A voice, such as `vocoder.load` returns.
        preset: None is that of ESPnet's recipes for the voice's sample rate.
        temperature: Standard deviation of the noise.
        seed: Seed of the noise.
        pitch: Factor of the pitch, for voices that know it.

    Raises:
        VocoderError: No preset was given, and no recipe of ESPnet has the voice's sample rate.
    """

    def __init__(
        self,
        voice: Vocoder,
        preset: MelPreset | str | None = None,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        pitch: float = 1.0,
    ) -> None:
        if preset is None:
            if voice.sample_rate not in _PRESETS:
                rates = ", ".join(map(str, _PRESETS))
                raise VocoderError(
                    f"{voice.name}: has {voice.sample_rate} Hz, the known recipes of ESPnet have "
                    f"{rates}; say preset="
                )
            preset = _PRESETS[voice.sample_rate]
        super().__init__(voice, preset, temperature=temperature, seed=seed, pitch=pitch)

    @property
    def fs(self) -> int:
        """Sample rate in Hz, as Text2Speech asks for it."""
        return self.voice.sample_rate

    def forward(self, feats: Tensor) -> Tensor:
        """Turn the mel (F, M) of one utterance into audio (N,)."""
        return self.speak(float_tensor(feats).mT)
