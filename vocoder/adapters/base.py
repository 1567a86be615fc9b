"""What all adapters share: the exact conversion of mels, lengths, and the manners of a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.voice.batches import Lengths
from vocoder.voice.pitch import check_pitch
from vocoder.voice.vocoder import Vocoder, check_settings


class Adapter(nn.Module):
    """A voice that takes the mels of another pipeline.

    Pipelines put modules where they want them. The voice stays where it was loaded, in its own
    type, and the audio comes back where, and in the type that, the mel came; `to` moves nothing but
    a parameter without values, from which pipelines read a device.

    Args:
        voice: A voice, such as `vocoder.load` returns.
        preset: The preset that the pipeline's mels are made with, or its name.
        temperature: Standard deviation of the noise, as `Vocoder.synthesize` takes it.
        seed: Seed of the noise, the same in every call; None draws fresh noise. Pipelines that fix
            the seed of torch do not reach it.
        pitch: Factor of the pitch, as `Vocoder.synthesize` takes it.

    Attributes:
        voice: The voice that speaks.
        preset: Preset of the pipeline's mels.

    Raises:
        VocoderError: There is no exact conversion from `preset` to the voice's, or a temperature
            or seed that no voice takes, or another pitch than 1 from a voice that knows none.
    """

    def __init__(
        self,
        voice: Vocoder,
        preset: MelPreset | str,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        pitch: float = 1.0,
    ) -> None:
        super().__init__()
        self.voice = voice
        self.preset = get_preset(preset) if isinstance(preset, str) else preset
        self.temperature = temperature
        self.seed = seed
        self.pitch = check_pitch(pitch)
        # Better refused here than after minutes of text-to-mel.
        check_settings(temperature, seed)
        if self.pitch != 1:
            voice.check_control()
        convert_mel(torch.zeros(self.preset.n_mels, 1), self.preset, voice.preset)
        self.place = nn.Parameter(torch.empty(0, device=voice.device), requires_grad=False)

    def speak(
        self,
        mel: Tensor,
        lengths: Lengths | None = None,
        temperature: float | None = None,
        f0: Tensor | None = None,
    ) -> Tensor:
        """Turn mels of the pipeline's preset into audio.

        Args:
            mel: (M, F) or (B, M, F), any float type, on any device.
            lengths: Frames (B,) of each item, as `Vocoder.synthesize` takes them.
            temperature: None is the adapter's own.
            f0: The pitch in Hz, (F,) or (B, F), of a pipeline that predicts it, as
                `Vocoder.synthesize` takes it.

        Returns:
            (N,) or (B, N), N = F · hop, of the mel's type and on its device.

        Raises:
            VocoderError: `mel` is no tensor of floats, or what `Vocoder.synthesize` refuses.
        """
        mel = float_tensor(mel)
        # In half precision a conversion would cost digits.
        wide = mel.to(torch.promote_types(mel.dtype, torch.float32))
        audio = self.voice.synthesize(
            convert_mel(wide, self.preset, self.voice.preset),
            lengths,
            temperature=self.temperature if temperature is None else temperature,
            seed=self.seed,
            pitch=self.pitch,
            f0=f0,
        )
        return audio.to(mel)

    def extra_repr(self) -> str:
        """Name voice and preset where the module is printed."""
        return f"{self.voice.name}, {self.preset.name}"


def float_tensor(mel: Tensor) -> Tensor:
    """Return `mel`, or raise a `VocoderError` if it is no tensor of floats.

    The audio gets the mel's type, in which integers would be silence.
    """
    if not isinstance(mel, Tensor) or not mel.is_floating_point():
        kind = mel.dtype if isinstance(mel, Tensor) else f"a {type(mel).__name__}"
        raise VocoderError(f"mel: is {kind}; give a tensor of floats")
    return mel
