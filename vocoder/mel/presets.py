"""The mel-spectrogram recipes of the field, as data.

Two recipes that look equal often are not; `preset_difference` says in what. The numbers were read
in the code of the projects, not in their papers. What a project does to the audio before its
extractor, or to the mel after it (peak normalisation, z-scores), is told in `description` and is
not done here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vocoder import config
from vocoder.errors import VocoderError
from vocoder.mel.filterbank import triangular_filters


@dataclass(frozen=True)
class MelPreset:
    """How audio becomes a mel-spectrogram.

    With X the short-time Fourier transform (periodic Hann window, unnormalised) and W the filters:

        P = max(|X|² + power_offset, power_floor)
        x = W √P  ("magnitude")  or  W P  ("power")
        mel = clip(scale · log(max(x, floor)) + shift)

    No field has a default: a recipe must say everything.
    """

    name: str
    sample_rate: int  # Hz
    n_fft: int  # samples
    hop_length: int  # samples from frame to frame
    win_length: int  # samples; the window is centred in n_fft
    n_mels: int
    f_min: float  # Hz, lower edge of the lowest filter
    f_max: float  # Hz, upper edge of the highest filter
    spectrum: Literal["magnitude", "power"]
    power_offset: float  # added to |X|²
    power_floor: float  # |X|² is at least this
    mel_scale: Literal["slaney", "htk"]
    mel_norm: Literal["slaney", "none"]  # slaney: filters of equal area; none: of equal height
    log: Literal["ln", "log10", "none"]
    floor: float  # smallest value that the logarithm sees
    scale: float  # multiplies the logarithm; 20 makes dB of log10
    shift: float  # added after that
    clip: tuple[float, float] | None  # lowest and highest value of the result
    # Frame f begins at sample f·hop less the left padding. "center": n_fft/2 on both sides, frames
    # are centred on f·hop, F = N//hop + 1. "same": (n_fft - hop)/2, frames are centred half a hop
    # later, F = N//hop. "same-ceil": like "same", the remainder of N/hop padded as well, on both
    # sides, F = ceil(N/hop).
    padding: Literal["center", "same", "same-ceil"]
    pad_mode: Literal["reflect", "constant"]
    description: str

    def __post_init__(self) -> None:
        where = f"preset {self.name}"
        for field, most in (("sample_rate", 2**20), ("n_fft", 2**16), ("n_mels", 2**10)):
            if not 1 <= getattr(self, field) <= most:
                raise config.ConfigError(f"{where}: {field} must be positive, and at most {most}")
        if not 1 <= self.hop_length <= self.win_length <= self.n_fft:
            raise config.ConfigError(f"{where}: wants 1 ≤ hop_length ≤ win_length ≤ n_fft")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise config.ConfigError(f"{where}: wants 0 ≤ f_min < f_max ≤ sample_rate/2")
        if self.log != "none" and not self.floor > 0:
            raise config.ConfigError(f"{where}: floor must be positive where a logarithm is taken")
        if min(self.power_offset, self.power_floor, self.floor) < 0 or self.scale <= 0:
            raise config.ConfigError(
                f"{where}: floors and offsets must not be negative, scale positive"
            )
        if self.clip is not None and (len(self.clip) != 2 or self.clip[0] >= self.clip[1]):
            raise config.ConfigError(f"{where}: clip must be a lower and a higher value, or null")

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, ready for JSON."""
        return config.to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "preset") -> MelPreset:
        """Build a preset from what `to_dict` gave.

        Raises:
            ConfigError: A key is unknown or missing, or a value does not fit.
        """
        return config.from_dict(cls, values, where)

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits: equal if and only if two presets give the same mels."""
        values = {field: getattr(self, field) for field in VALUE_FIELDS}
        # 8000 and 8000.0 are the same frequency but not the same text.
        numbers = json.loads(json.dumps(values), parse_int=float)
        plain = json.dumps(numbers, sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:12]

    def pad_widths(self, n_samples: int) -> tuple[int, int]:
        """Return how many samples are padded before and after audio of `n_samples`."""
        if self.padding == "center":
            return self.n_fft // 2, self.n_fft // 2
        width = self.n_fft - self.hop_length
        if self.padding == "same-ceil":
            width += -n_samples % self.hop_length
        return width // 2, width - width // 2

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames F of audio with `n_samples` samples."""
        spare = n_samples + sum(self.pad_widths(n_samples)) - self.n_fft
        return max(0, spare // self.hop_length + 1)

    @functools.cached_property
    def min_samples(self) -> int:
        """The shortest audio that has a frame; a reflection must be shorter than the audio."""
        return next(
            n
            for n in itertools.count(1)
            if self.n_frames(n) and (self.pad_mode == "constant" or max(self.pad_widths(n)) < n)
        )

    def filterbank(self) -> npt.NDArray[np.float64]:
        """Return the triangular filters W (M, n_fft//2 + 1), read-only."""
        shape = self.sample_rate, self.n_fft, self.n_mels
        return triangular_filters(*shape, self.f_min, self.f_max, self.mel_scale, self.mel_norm)

    def compress(self, x: float) -> float:
        """Return the mel value of one filter's output x; `MelSpectrogram` does this to tensors."""
        if self.log != "none":
            x = {"ln": math.log, "log10": math.log10}[self.log](max(x, self.floor))
        else:
            x = max(x, self.floor)
        low, high = self.clip or (-math.inf, math.inf)
        return min(max(self.scale * x + self.shift, low), high)

    @functools.cached_property
    def silence_floor(self) -> float:
        """The mel value of digital silence, the one to pad a batch with."""
        power = max(self.power_offset, self.power_floor)
        if not power:
            return self.compress(0.0)
        spectrum = math.sqrt(power) if self.spectrum == "magnitude" else power
        return self.compress(spectrum * float(self.filterbank().sum(axis=1).min()))


VALUE_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(MelPreset)
    if field.name not in ("name", "description")
)


TACOTRON2 = MelPreset(
    name="tacotron2-22k",
    sample_rate=22050,
    n_fft=1024,
    hop_length=256,
    win_length=1024,
    n_mels=80,
    f_min=0.0,
    f_max=8000.0,
    spectrum="magnitude",
    power_offset=0.0,
    power_floor=0.0,
    mel_scale="slaney",
    mel_norm="slaney",
    log="ln",
    floor=1e-5,
    scale=1.0,
    shift=0.0,
    clip=None,
    padding="center",
    pad_mode="reflect",
    description="NVIDIA Tacotron 2, WaveGlow and NanoFlow; audio is int16/32768, not normalised",
)

_HIFIGAN = dataclasses.replace(
    TACOTRON2,
    name="hifigan-22k",
    power_offset=1e-9,
    padding="same",
    description="HiFi-GAN V1 to V3 and Matcha-TTS; training audio is peak-normalised to 0.95",
)

_PWG = dataclasses.replace(
    TACOTRON2,
    name="pwg-22k",
    f_min=80.0,
    f_max=7600.0,
    log="log10",
    floor=1e-10,
    description="ParallelWaveGAN and ESPnet on LJSpeech, before the z-score of each band",
)

_VALUES = (
    TACOTRON2,
    dataclasses.replace(
        TACOTRON2,
        name="nanoflow-db-22k",
        log="log10",
        scale=0.2,
        shift=0.9,
        clip=(0.0, 1.0),
        description="NanoFlow with use_dbmel: S = 20 log10 x - 10, then (S + 100)/100",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="waveflow-paddle-22k",
        padding="same-ceil",
        description="WaveFlow in PaddlePaddle Parakeet; audio is peak-normalised to 0.999",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="flowavenet-22k",
        f_min=125.0,
        f_max=7600.0,
        spectrum="power",
        log="log10",
        floor=1e-4,
        scale=0.2,
        shift=0.8,
        clip=(0.0, 1.0),
        description="FloWaveNet: S = 20 log10 x - 20, then (S + 100)/100; audio is "
        "peak-normalised to 0.999; files are (T, 80)",
    ),
    _HIFIGAN,
    dataclasses.replace(
        _HIFIGAN,
        name="bigvgan-22k-80band",
        f_max=11025.0,
        description="BigVGAN v2 22 kHz 80 bands 256x; training audio is peak-normalised to 0.95. "
        "The first BigVGAN of this rate stops at 8000 Hz: that is hifigan-22k",
    ),
    dataclasses.replace(
        _HIFIGAN,
        name="bigvgan-24k-100band",
        sample_rate=24000,
        n_mels=100,
        f_max=12000.0,
        description="BigVGAN (v1 and v2) 24 kHz; training audio is peak-normalised to 0.95",
    ),
    dataclasses.replace(
        _HIFIGAN,
        name="bigvgan-44k-128band-256x",
        sample_rate=44100,
        n_mels=128,
        f_max=22050.0,
        description="BigVGAN v2 44 kHz 256x; training audio is peak-normalised to 0.95",
    ),
    dataclasses.replace(
        _HIFIGAN,
        name="bigvgan-44k-128band-512x",
        sample_rate=44100,
        n_fft=2048,
        hop_length=512,
        win_length=2048,
        n_mels=128,
        f_max=22050.0,
        description="BigVGAN v2 44 kHz 512x; training audio is peak-normalised to 0.95",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="vocos-24k",
        sample_rate=24000,
        n_mels=100,
        f_max=12000.0,
        mel_scale="htk",
        mel_norm="none",
        floor=1e-7,
        description="Vocos; training audio has a random gain of -1 to -6 dB",
    ),
    _PWG,
    dataclasses.replace(
        _PWG,
        name="pwg-24k",
        sample_rate=24000,
        n_fft=2048,
        hop_length=300,
        win_length=1200,
        description="ParallelWaveGAN on LibriTTS, VCTK, CSMSC, before the z-score of each band; "
        "files are (T, 80)",
    ),
    dataclasses.replace(
        _PWG,
        name="espnet-16k",
        sample_rate=16000,
        power_floor=1e-10,
        description="ESPnet LogMelFbank at its defaults, before GlobalMVN; files are (T, 80)",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="coqui-22k",
        f_max=11025.0,
        log="log10",
        floor=1e-8,
        scale=1.6,
        shift=2.4,
        clip=(-4.0, 4.0),
        description="Coqui TTS at its defaults: S = 20 log10 x - 20, then 8 (S + 100)/100 - 4; "
        "silence is trimmed at 45 dB; some voices use a z-score instead",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="torchaudio-tacotron2-22k",
        description="torchaudio's Tacotron 2 GRIFFINLIM bundles: the same as tacotron2-22k",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="torchaudio-wavernn-22k",
        n_fft=2048,
        hop_length=275,
        win_length=1100,
        f_min=40.0,
        f_max=11025.0,
        description="torchaudio's Tacotron 2 WAVERNN bundles; the vocoder itself maps the mel to "
        "(dB + 100)/100",
    ),
    dataclasses.replace(
        _PWG,
        name="speecht5-16k",
        sample_rate=16000,
        description="SpeechT5, before its optional mean and scale; files are (T, 80)",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="speechbrain-22k",
        description="SpeechBrain's HiFi-GAN on LJSpeech: the same as tacotron2-22k, frames centred "
        "unlike those of hifigan-22k",
    ),
    dataclasses.replace(
        _HIFIGAN,
        name="fish-44k",
        sample_rate=44100,
        n_fft=2048,
        hop_length=512,
        win_length=2048,
        n_mels=128,
        f_max=22050.0,
        power_offset=1e-6,
        description="Fish Audio's vocoders",
    ),
    dataclasses.replace(
        TACOTRON2,
        name="librosa-22k",
        n_fft=2048,
        hop_length=512,
        win_length=2048,
        n_mels=128,
        f_max=11025.0,
        spectrum="power",
        log="none",
        floor=0.0,
        pad_mode="constant",
        description="librosa.feature.melspectrogram at its defaults, before power_to_db",
    ),
)

PRESETS: Mapping[str, MelPreset] = MappingProxyType({preset.name: preset for preset in _VALUES})
"""Every preset by its name."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {"waveglow-22k": "tacotron2-22k", "nanoflow-22k": "tacotron2-22k"}
)
"""Other names of presets."""


def get_preset(name: str) -> MelPreset:
    """Return the preset of that name or alias.

    Raises:
        VocoderError: there is none; the message suggests the nearest.
    """
    try:
        return PRESETS[ALIASES.get(name, name)]
    except KeyError:
        suggestion = config.suggest(name, [*PRESETS, *ALIASES])
        raise VocoderError(
            f"preset {name!r}: unknown{suggestion or '; `vocoder presets` lists them'}"
        ) from None


def preset_difference(a: MelPreset, b: MelPreset) -> list[str]:
    """Return the fields in which two presets differ, as "n_mels 100 ≠ 80"; empty if none does."""
    pairs = ((field, getattr(a, field), getattr(b, field)) for field in VALUE_FIELDS)
    return [f"{field} {_show(x)} ≠ {_show(y)}" for field, x, y in pairs if x != y]


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
