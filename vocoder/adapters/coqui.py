"""Coqui TTS: `CoquiVocoder.plug_into(synthesizer, voice)`."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vocoder.adapters.base import Adapter
from vocoder.errors import VocoderError
from vocoder.mel.presets import TACOTRON2, MelPreset
from vocoder.voice.vocoder import Vocoder

_LOGARITHMS: dict[str, Literal["ln", "log10"]] = {"np.log": "ln", "np.log10": "log10"}


class CoquiVocoder(Adapter):
    """The vocoder of a `TTS.utils.synthesizer.Synthesizer`, which takes mels without normalisation.

    Args:
        voice: A voice, such as `vocoder.load` returns.
        preset: Preset of the mels before Coqui normalises them; `denormalised_preset` reads it from
            the text-to-speech model.
        temperature: Standard deviation of the noise.
        seed: Seed of the noise.
        pitch: Factor of the pitch, for voices that know it.
    """

    @classmethod
    def plug_into(
        cls,
        synthesizer: Any,
        voice: Vocoder,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        pitch: float = 1.0,
    ) -> CoquiVocoder:
        """Make `voice` the vocoder of a Synthesizer.

        Raises:
            VocoderError: The voice cannot take the mels of the Synthesizer's text-to-speech model.
        """
        preset = denormalised_preset(synthesizer.tts_model.ap)
        vocoder = cls(voice, preset, temperature=temperature, seed=seed, pitch=pitch)
        synthesizer.vocoder_model = vocoder
        synthesizer.vocoder_ap = NoNormalisation()
        # The rates are equal, or there were no exact conversion: nothing gets interpolated.
        synthesizer.vocoder_config = {"audio": {"sample_rate": voice.sample_rate}}
        synthesizer.output_sample_rate = voice.sample_rate
        return vocoder

    def inference(self, mel: Tensor) -> Tensor:
        """Turn a mel (1, M, F) into audio (1, 1, N)."""
        return self.speak(mel).unsqueeze(1)


class NoNormalisation:
    """In place of the vocoder's own AudioProcessor."""

    def normalize(self, mel: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the mel (M, F) as it is."""
        return mel


def denormalised_preset(processor: Any) -> MelPreset:
    """Return the recipe of the mels that a Coqui `AudioProcessor` makes, before it normalises them.

    Args:
        processor: `TTS.utils.audio.AudioProcessor`, such as `tts_model.ap`.

    Raises:
        VocoderError: it makes mels that no preset can describe.
    """
    if processor.preemphasis:
        raise VocoderError(
            f"coqui: preemphasis {processor.preemphasis:g}; no voice takes such mels, train the "
            "text-to-speech model without it"
        )
    in_logarithm = processor.do_amp_to_db_mel
    return dataclasses.replace(
        TACOTRON2,
        name="coqui-denormalised",
        sample_rate=processor.sample_rate,
        n_fft=processor.fft_size,
        hop_length=processor.hop_length,
        win_length=processor.win_length,
        n_mels=processor.num_mels,
        f_min=float(processor.mel_fmin or 0),
        f_max=float(processor.mel_fmax or processor.sample_rate / 2),
        log=_LOGARITHMS[processor.log_func] if in_logarithm else "none",
        floor=1e-8 if in_logarithm else 0.0,
        scale=float(processor.spec_gain) if in_logarithm else 1.0,
        pad_mode=processor.stft_pad_mode,
        description="made by a Coqui AudioProcessor",
    )
