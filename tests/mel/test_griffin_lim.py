"""Griffin-Lim: lengths, the mel that it was given, seeds, hardly any frames."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from speech_mels import TACOTRON2, each_preset, speech
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.griffin_lim import GriffinLim
from vocoder.mel.presets import MelPreset
from vocoder.mel.spectrogram import MelSpectrogram


@each_preset
def test_griffin_lim_gives_whole_frames_that_lie_where_they_were(preset: MelPreset) -> None:
    n_samples, middle = 40 * preset.hop_length, 17.3 * preset.hop_length
    time = torch.arange(n_samples)
    noise = torch.randn(n_samples, generator=torch.Generator().manual_seed(0))
    burst = 0.1 * noise * torch.exp(-0.5 * ((time - middle) / (2 * preset.hop_length)) ** 2)
    mel = MelSpectrogram(preset)(burst)
    found = GriffinLim(preset, n_iter=30)(mel)
    assert found.shape == (mel.shape[1] * preset.hop_length,)

    def centre(audio: Tensor) -> float:
        energy = audio.square()
        return (energy * torch.arange(len(energy))).sum().item() / energy.sum().item()

    # Half a hop, the difference of "center" and "same", would be four times as much.
    assert abs(centre(found) - centre(burst)) < preset.hop_length / 8


@each_preset
def test_griffin_lim_has_the_mel_it_was_given(preset: MelPreset) -> None:
    audio = speech(preset)
    audio = audio[: len(audio) // preset.hop_length * preset.hop_length]
    ruler = dataclasses.replace(preset, log="log10", floor=1e-3, scale=20.0, shift=0.0, clip=None)
    mel = MelSpectrogram(preset)(audio)
    found = GriffinLim(preset, n_iter=8)(mel)[: len(audio)]
    distance = (MelSpectrogram(ruler)(found) - MelSpectrogram(ruler)(audio)).abs().mean()
    shifted = (MelSpectrogram(ruler)(audio.roll(256)) - MelSpectrogram(ruler)(audio)).abs().mean()
    assert distance < 3  # dB
    assert distance < shifted


def test_griffin_lim_follows_its_seed_and_takes_batches() -> None:
    invert = GriffinLim(TACOTRON2, n_iter=3)
    mel = MelSpectrogram(TACOTRON2)(speech()[:8192])
    assert torch.equal(invert(mel, seed=1), invert(mel, seed=1))
    assert not torch.equal(invert(mel, seed=1), invert(mel, seed=2))
    batch = invert(torch.stack([mel, mel]))
    assert batch.shape == (2, mel.shape[1] * 256)


def test_griffin_lim_improves_with_iterations() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech()[:16384])
    distances = [
        (MelSpectrogram(TACOTRON2)(GriffinLim(TACOTRON2, n)(mel)[:16384]) - mel).abs().mean().item()
        for n in (0, 5, 40)
    ]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("n_frames", [1, 2])
@each_preset
def test_griffin_lim_of_hardly_any_frames(preset: MelPreset, n_frames: int) -> None:
    mel = torch.full((preset.n_mels, n_frames), preset.silence_floor)
    audio = GriffinLim(preset, n_iter=2)(mel)
    assert audio.shape == (n_frames * preset.hop_length,)
    assert audio.isfinite().all()


def test_griffin_lim_checks_the_shape() -> None:
    with pytest.raises(VocoderError, match=r"shape \(100, 5\)"):
        GriffinLim(TACOTRON2)(torch.zeros(100, 5))
    with pytest.raises(VocoderError, match="expected"):
        GriffinLim(TACOTRON2)(torch.zeros(1, 1, 80, 5))
