"""Mels that look like those of another convention: named, and no false alarm."""

from __future__ import annotations

import pytest
import torch
from speech_mels import TACOTRON2, each_preset, made_up, speech
from torch import Tensor

from vocoder.mel.appearance import looks_like
from vocoder.mel.presets import MelPreset
from vocoder.mel.spectrogram import MelSpectrogram

LISTENERS = {
    "as recorded": lambda x, noise: x,
    "full scale": lambda x, noise: x / x.abs().max(),
    "clipped": lambda x, noise: (8 * x).clamp(-1, 1),
    "quiet": lambda x, noise: x / 100,
    "nearly silent": lambda x, noise: x / 3000,
    "noisy": lambda x, noise: x + 0.1 * x.std() * noise,
    "16 bit with hiss": lambda x, noise: (x * 10000 + 3 * noise).round() / 32768,
    "mostly pause": lambda x, noise: torch.cat([torch.zeros(60000), 0.3 * x]),
    "silence": lambda x, noise: torch.zeros_like(x),
    "one click": lambda x, noise: torch.eye(1, len(x))[0],
    "least bit": lambda x, noise: noise.round() / 32768,
    "white noise": lambda x, noise: (0.3 * noise).clamp(-1, 1),
    "sine": lambda x, noise: torch.sin(0.1 * torch.arange(len(x))),
    "short": lambda x, noise: x[8000:12000],
}


@each_preset
@pytest.mark.parametrize("name", LISTENERS)
def test_no_false_alarm(preset: MelPreset, name: str) -> None:
    audio = speech(preset)
    noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    mel = MelSpectrogram(preset)(LISTENERS[name](audio, noise))
    assert looks_like(mel, preset) is None
    # A text-to-speech model smooths what it predicts, and misses the floor a little.
    smooth = torch.nn.functional.avg_pool2d(mel[None], 3, stride=1)[0]
    assert looks_like(smooth if preset.log == "none" else smooth - 0.01, preset) is None


def scaled(name: str, x: Tensor) -> Tensor:
    """Magnitudes in another unit, as other projects store them."""
    log10 = x.clamp_min(1e-5).log10()
    return {
        "ln": x.clamp_min(1e-5).log(),
        "log10": log10,
        "log10, low floor": x.clamp_min(1e-10).log10(),
        "dB": 20 * log10,
        "0..1": (0.2 * log10 + 0.9).clamp(0, 1),
        "-4..4": (1.6 * x.clamp_min(1e-8).log10() + 2.4).clamp(-4, 4),
        "linear": x,
        "z-score": (log10 - log10.mean(1, keepdim=True)) / log10.std(1, keepdim=True),
    }[name]


@pytest.mark.parametrize("gain", [1.0, 0.1])
@pytest.mark.parametrize(
    ("unit", "preset", "phrase"),
    [
        ("log10", "tacotron2-22k", "looks like log10"),
        ("log10, low floor", "tacotron2-22k", "looks like log10"),
        ("dB", "tacotron2-22k", "looks like dB"),
        ("0..1", "tacotron2-22k", "looks normalised to 0..1"),
        ("-4..4", "tacotron2-22k", "looks normalised to -4..4"),
        ("linear", "tacotron2-22k", "looks like linear magnitude"),
        ("z-score", "tacotron2-22k", "looks normalised to zero mean and unit variance"),
        ("ln", "pwg-22k", "looks like ln"),
        ("dB", "pwg-22k", "looks like dB"),
        ("0..1", "pwg-22k", "looks normalised to 0..1"),
        ("linear", "pwg-22k", "looks like linear magnitude"),
        ("z-score", "pwg-22k", "looks normalised to zero mean and unit variance"),
        ("ln", "nanoflow-db-22k", "looks like ln"),
        ("log10", "nanoflow-db-22k", "looks like log10"),
        ("linear", "nanoflow-db-22k", "looks like linear magnitude"),
        ("ln", "coqui-22k", "looks like ln"),
        ("0..1", "coqui-22k", "looks normalised to 0..1"),
        ("dB", "vocos-24k", "looks like dB"),
        ("ln", "librosa-22k", "looks like ln"),
        ("log10", "hifigan-22k", "looks like log10"),
        ("ln", "espnet-16k", "looks like ln"),
    ],
)
def test_common_confusions_are_named(unit: str, preset: str, phrase: str, gain: float) -> None:
    # With a pause, as sentences have: -60 dB of full scale is where normalised mels are clipped.
    audio = torch.cat([gain * speech(), torch.zeros(6000)])
    x = MelSpectrogram(made_up(log="none", floor=0.0))(audio)
    appearance = looks_like(scaled(unit, x), preset)
    assert appearance is not None
    assert appearance.startswith(phrase)


def test_log10_without_a_pause_is_told_by_its_contrast() -> None:
    noise = torch.randn(speech().shape, generator=torch.Generator().manual_seed(0))
    x = MelSpectrogram(made_up(log="none", floor=0.0))(speech() + 1e-3 * noise)
    assert looks_like(scaled("log10", x), "tacotron2-22k") == "looks like log10"
    assert looks_like(scaled("ln", x), "pwg-22k") == "looks like ln"


def test_values_beyond_the_preset_are_told_with_the_range() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech()) + 5
    appearance = looks_like(mel, TACOTRON2)
    assert appearance is not None
    assert "beyond -11.51 to 3.2" in appearance


def test_non_finite_values_are_told() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech())
    mel[3, 4] = torch.nan
    assert looks_like(mel, TACOTRON2) == "holds NaN or infinite values"
