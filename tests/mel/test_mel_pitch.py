"""Mels at another pitch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vocoder.mel.envelope import log_amplitude
from vocoder.mel.pitch import change_pitch
from vocoder.mel.presets import PRESETS, MelPreset, get_preset
from vocoder.mel.spectrogram import MelSpectrogram

FORMANTS = ((600.0, 90.0), (1300.0, 120.0), (2500.0, 180.0))  # Hz, of the middle and the width


def vowel(f0: float, preset: MelPreset, seconds: float = 0.4) -> Tensor:
    """Return a vowel (1, N): harmonics of random phases under three formants."""
    rate = preset.sample_rate
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(round(seconds * rate)).double() / rate
    audio = torch.zeros_like(time)
    # The same power in each Hz, whatever the pitch.
    strength = 0.02 * (f0 / 100) ** 0.5
    for harmonic in torch.arange(f0, min(preset.f_max, rate / 2), f0, dtype=torch.float64):
        envelope = sum(1 / (1 + ((harmonic - f) / w) ** 2) for f, w in FORMANTS) + 0.01
        phase = 6.28 * torch.rand((), generator=generator, dtype=torch.float64)
        audio += strength * envelope * (6.283185307 * harmonic * time + phase).cos()
    audio += 0.002 * torch.randn(len(audio), generator=generator, dtype=torch.float64)  # breath
    hop = preset.hop_length
    return audio[: len(audio) // hop * hop].float()[None]


def mel_of(f0: float, preset: MelPreset) -> Tensor:
    return MelSpectrogram(preset)(vowel(f0, preset)).double()


@pytest.mark.parametrize(
    "name", ["tacotron2-22k", "speecht5-16k", "vocos-24k", "torchaudio-wavernn-22k"]
)
@pytest.mark.parametrize(("old", "new"), [(130.0, 200.0), (200.0, 130.0), (150.0, 120.0)])
def test_a_vowel_becomes_the_same_vowel_at_the_other_pitch(
    name: str, old: float, new: float
) -> None:
    preset = get_preset(name)
    before, wanted = mel_of(old, preset), mel_of(new, preset)
    frames = slice(8, before.shape[-1] - 8)  # the ends hear the silence beyond
    track = torch.full((1, before.shape[-1]), old, dtype=torch.float64)
    changed = change_pitch(before, preset, track, track * new / old)

    def distance(a: Tensor, b: Tensor) -> float:
        difference = log_amplitude(a, preset) - log_amplitude(b, preset)
        return float(difference[:, :40, frames].square().mean().sqrt())

    assert distance(changed, wanted) < 0.7 * distance(before, wanted)


def test_the_harmonics_move_to_the_multiples_of_the_new_pitch() -> None:
    preset = get_preset("speecht5-16k")
    before = mel_of(200.0, preset)
    track = torch.full((1, before.shape[-1]), 200.0, dtype=torch.float64)
    changed = change_pitch(before, preset, track, 1.25 * track)
    wanted = mel_of(250.0, preset)
    column = before.shape[-1] // 2
    low = slice(0, 14)  # bands that are narrower than the harmonics are apart
    correlation = torch.corrcoef(
        torch.stack([mel[0, low, column] for mel in (changed, wanted, before)])
    )
    assert correlation[0, 1] > 0.65
    assert correlation[0, 1] > correlation[1, 2] + 0.4


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_frames_without_a_voice_and_the_same_pitch_stay(preset: MelPreset) -> None:
    low, high = preset.silence_floor, preset.compress(10.0)
    mel = low + (high - low) * torch.rand(2, preset.n_mels, 7, dtype=torch.float64)
    silent = torch.zeros(2, 7, dtype=torch.float64)
    assert torch.equal(change_pitch(mel, preset, silent, silent), mel)
    track = torch.full((2, 7), 140.0, dtype=torch.float64)
    same = change_pitch(mel, preset, track, track)
    torch.testing.assert_close(same, mel, atol=1e-4 * (high - low), rtol=1e-6)
    for new in (silent, 3 * track):
        assert change_pitch(mel, preset, track, new).isfinite().all()
