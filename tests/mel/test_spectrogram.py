"""Mels: those of the published code, exact lengths, floors, gradients, batches."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_mels import GOLDEN_NAMES, REFERENCES, TACOTRON2, each_preset, speech

from vocoder.device import as_float64
from vocoder.errors import VocoderError
from vocoder.mel.compression import expand
from vocoder.mel.presets import PRESETS, MelPreset
from vocoder.mel.spectrogram import MelSpectrogram


def test_the_seven_references_are_there() -> None:
    assert len(GOLDEN_NAMES) == 7


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_mels_of_the_published_code(name: str) -> None:
    reference = REFERENCES[f"mel.{name}"]
    preset = PRESETS[name]
    mel = MelSpectrogram(name)(speech(preset))
    assert mel.shape == reference.shape
    # Rounding in float32 is a millionth of the loudest band, on either side of the comparison, and
    # its last bits differ from one processor to another; the logarithm shows it in the quietest.
    ours, theirs = (expand(x.double(), preset) for x in (mel, reference))
    assert ((ours - theirs).abs() <= 5e-4 * theirs + 1e-6 * theirs.max()).all()


@each_preset
@settings(max_examples=15, deadline=None)
@given(extra=st.integers(0, 3000))
def test_lengths_are_exact(preset: MelPreset, extra: int) -> None:
    n_samples = preset.min_samples + extra
    mel = MelSpectrogram(preset)(torch.zeros(n_samples))
    assert mel.shape == (preset.n_mels, preset.n_frames(n_samples))
    expected = {
        "center": n_samples // preset.hop_length + 1,
        "same": n_samples // preset.hop_length,
        "same-ceil": -(-n_samples // preset.hop_length),
    }
    assert mel.shape[1] == expected[preset.padding]


@each_preset
def test_audio_shorter_than_its_reflection_is_refused(preset: MelPreset) -> None:
    needed = preset.min_samples
    with pytest.raises(VocoderError, match=f"{needed - 1} samples .* at least {needed}$"):
        MelSpectrogram(preset)(torch.zeros(needed - 1))
    assert MelSpectrogram(preset)(torch.zeros(needed)).shape[1] >= 1


def test_audio_must_be_floats_of_one_or_two_dimensions() -> None:
    with pytest.raises(VocoderError, match=r"int16; scale it to floats"):
        MelSpectrogram(TACOTRON2)(torch.zeros(2000, dtype=torch.int16))
    with pytest.raises(VocoderError, match=r"shape \(1, 1, 2000\)"):
        MelSpectrogram(TACOTRON2)(torch.zeros(1, 1, 2000))


@each_preset
def test_silence_has_the_value_to_pad_with(preset: MelPreset) -> None:
    mel = MelSpectrogram(preset)(torch.zeros(preset.min_samples, dtype=torch.float64))
    assert mel.min().item() == pytest.approx(preset.silence_floor, abs=1e-9)
    # Bands differ only where |X|² itself has a floor that shows through the filters.
    if not preset.power_floor and preset.name != "fish-44k":
        assert mel.max().item() == pytest.approx(preset.silence_floor, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("tacotron2-22k", -11.5129),
        ("pwg-22k", -10),
        ("vocos-24k", -16.118),
        ("coqui-22k", -4),
        ("nanoflow-db-22k", 0),
    ],
)
def test_silence_floors(name: str, floor: float) -> None:
    assert PRESETS[name].silence_floor == pytest.approx(floor, abs=1e-3)


@each_preset
def test_the_formula(preset: MelPreset) -> None:
    """Compare with the definition, computed frame by frame in float64."""
    audio = speech(preset)[:6000].double()
    left, right = preset.pad_widths(len(audio))
    padded = np.pad(audio.numpy(), (left, right), mode=preset.pad_mode)
    n = np.arange(preset.win_length)
    window = np.zeros(preset.n_fft)
    start = (preset.n_fft - preset.win_length) // 2
    window[start : start + preset.win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * n / len(n))
    for frame in (0, 3, preset.n_frames(len(audio)) - 1):
        begin = frame * preset.hop_length
        power = np.abs(np.fft.rfft(padded[begin : begin + preset.n_fft] * window)) ** 2
        power = np.maximum(power + preset.power_offset, preset.power_floor)
        spectrum = np.sqrt(power) if preset.spectrum == "magnitude" else power
        expected = [preset.compress(x) for x in preset.filterbank() @ spectrum]
        mel = MelSpectrogram(preset)(audio)[:, frame]
        np.testing.assert_allclose(mel.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_a_batch_and_long_audio_equal_their_parts() -> None:
    transform = MelSpectrogram(TACOTRON2)
    batch = torch.stack([speech().repeat(10), speech().repeat(10).flip(0)]).double()
    mel = transform(batch)
    assert mel.shape == (2, 80, TACOTRON2.n_frames(batch.shape[1]))
    torch.testing.assert_close(mel[1], transform(batch[1]), rtol=0, atol=1e-9)
    # Frames beyond the first block, from an excerpt that starts on a frame.
    excerpt = transform(batch[0, 400 * 256 : 500 * 256])
    torch.testing.assert_close(mel[0, :, 403:497], excerpt[:, 3:97], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    audio = speech().to(dtype)
    mel = MelSpectrogram(TACOTRON2)(audio)
    assert mel.dtype == torch.float32
    torch.testing.assert_close(mel, MelSpectrogram(TACOTRON2)(audio.float()))


def test_autocast_changes_nothing() -> None:
    transform = MelSpectrogram(TACOTRON2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = transform(speech())
    assert torch.equal(mel, transform(speech()))


@each_preset
def test_gradients(preset: MelPreset) -> None:
    small = dataclasses.replace(
        preset, n_fft=32, win_length=24, hop_length=8, n_mels=4, f_min=0.0, floor=1e-12, clip=None
    )
    audio = torch.randn(2, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(MelSpectrogram(small), (audio.requires_grad_(),))


def test_float64_of_an_apple_gpu_is_on_the_cpu() -> None:
    """It has none, so that nothing but `cpu` may be asked of what lies there."""
    mel = torch.randn(80, 3)
    there: Any = types.SimpleNamespace(device=torch.device("mps"), cpu=lambda: mel)
    assert torch.equal(as_float64(there), mel.double())


@each_preset
def test_gradients_in_digital_silence_are_finite(preset: MelPreset) -> None:
    audio = torch.zeros(4000)
    audio[:2000] = speech()[:2000]
    audio.requires_grad_()
    MelSpectrogram(preset)(audio).sum().backward()
    assert audio.grad is not None
    assert audio.grad.isfinite().all()
    assert audio.grad.any()


def test_inference_mode_does_not_spoil_later_training() -> None:
    preset = dataclasses.replace(TACOTRON2, name="not yet used", f_max=7777.0)
    with torch.inference_mode():
        MelSpectrogram(preset)(speech())
    audio = speech().clone().requires_grad_()
    MelSpectrogram(preset)(audio).sum().backward()
    assert audio.grad is not None


def test_filters_of_two_presets_do_not_mix() -> None:
    alone = {name: MelSpectrogram(name)(speech()) for name in ("hifigan-22k", "bigvgan-22k-80band")}
    for name, mel in alone.items():
        assert torch.equal(MelSpectrogram(name)(speech()), mel)
    assert not torch.equal(*alone.values())
