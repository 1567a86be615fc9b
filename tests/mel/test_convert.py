"""Mels converted from one preset to another: exact, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from speech_mels import TACOTRON2, made_up, speech

from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import PRESETS, MelPreset, preset_difference
from vocoder.mel.spectrogram import MelSpectrogram


def convertible(a: MelPreset, b: MelPreset) -> bool:
    fields = {difference.split()[0] for difference in preset_difference(a, b)}
    return fields <= {"log", "floor", "scale", "shift", "clip"}


PAIRS = [
    (a, b) for a in PRESETS.values() for b in PRESETS.values() if a is not b and convertible(a, b)
]


def test_the_convertible_pairs_are_there() -> None:
    names = {(a.name, b.name) for a, b in PAIRS}
    assert ("nanoflow-db-22k", "tacotron2-22k") in names
    assert ("tacotron2-22k", "speechbrain-22k") in names
    assert ("hifigan-22k", "tacotron2-22k") not in names


@pytest.mark.parametrize(
    ("source", "target"),
    [
        *PAIRS,
        (TACOTRON2, made_up(log="log10", floor=1e-10)),
        (made_up(log="log10", floor=1e-10), TACOTRON2),
        (TACOTRON2, made_up(log="none", floor=0.0)),
        (made_up(log="none", floor=0.0), TACOTRON2),
        (TACOTRON2, made_up(log="log10", scale=1.6, shift=2.4, floor=1e-8, clip=(-4.0, 4.0))),
        (made_up(log="log10", scale=20.0, shift=-20.0), TACOTRON2),
        (TACOTRON2, made_up(scale=0.5, shift=2.0)),
    ],
    ids=lambda preset: f"{preset.name}:{preset.fingerprint[:4]}",
)
def test_converted_mels_equal_computed_ones(source: MelPreset, target: MelPreset) -> None:
    audio = torch.cat([speech().double(), torch.zeros(4000, dtype=torch.float64)])
    converted = convert_mel(MelSpectrogram(source)(audio), source, target)
    expected = MelSpectrogram(target)(audio)
    # Below the higher of the two floors, and the clips, a value stands for anything beyond.
    x = MelSpectrogram(made_up(log="none", floor=0.0))(audio)
    low, high = 0.0, float("inf")
    for preset in (source, target):
        low = max(low, preset.floor)
        if preset.clip is not None:
            a, b = (10 ** ((bound - preset.shift) / preset.scale) for bound in preset.clip)
            low, high = max(low, a), min(high, b)
    known = (x > low * 1.0001) & (x < high * 0.9999)
    assert known.float().mean() > 0.5
    torch.testing.assert_close(converted[known], expected[known], rtol=1e-6, atol=1e-6)
    assert converted.min() >= target.silence_floor - 1e-6
    if source.floor <= target.floor and source.clip is None:
        torch.testing.assert_close(converted, expected, rtol=1e-6, atol=1e-6)


def test_a_round_trip_in_float32() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech())
    for other in (made_up(log="log10", floor=1e-10), made_up(scale=0.125, shift=1.0)):
        back = convert_mel(convert_mel(mel, TACOTRON2, other), other, TACOTRON2)
        assert back.dtype == torch.float32
        torch.testing.assert_close(back, mel, rtol=0, atol=5e-6)


def test_batches_convert() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech()[None].repeat(2, 1))
    converted = convert_mel(mel, "tacotron2-22k", "nanoflow-db-22k")
    assert converted.shape == mel.shape
    # An array gives an array, of the same values.
    as_array = convert_mel(mel.numpy(), "tacotron2-22k", "nanoflow-db-22k")
    np.testing.assert_array_equal(as_array, converted.numpy())


@pytest.mark.parametrize(
    ("source", "target", "difference"),
    [
        ("tacotron2-22k", "hifigan-22k", "padding center ≠ same"),
        ("tacotron2-22k", "pwg-22k", "f_min 0 ≠ 80, f_max 8000 ≠ 7600;"),
        ("bigvgan-22k-80band", "hifigan-22k", "f_max 11025 ≠ 8000;"),
        ("vocos-24k", "bigvgan-24k-100band", "mel_scale htk ≠ slaney"),
        ("bigvgan-44k-128band-256x", "bigvgan-44k-128band-512x", "hop_length 256 ≠ 512"),
    ],
)
def test_inexact_conversions_are_refused(source: str, target: str, difference: str) -> None:
    mel = torch.zeros(PRESETS[source].n_mels, 5)
    with pytest.raises(VocoderError) as caught:
        convert_mel(mel, source, target)
    assert f"from {source} to {target}" in str(caught.value)
    assert difference in str(caught.value)
    assert "\n" not in str(caught.value)
    assert " floor" not in str(caught.value), "what can be converted is no obstacle"


def test_conversion_checks_the_bands() -> None:
    with pytest.raises(VocoderError, match=r"shape \(100, 5\); preset tacotron2-22k has 80 bands"):
        convert_mel(torch.zeros(100, 5), TACOTRON2, "nanoflow-db-22k")


@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_either_byte_order_are_taken(order: str) -> None:
    audio = np.sin(np.arange(8192, dtype=np.float32) / 9)
    mel = MelSpectrogram(TACOTRON2)(audio)
    np.testing.assert_array_equal(MelSpectrogram(TACOTRON2)(audio.astype(f"{order}f4")), mel)
    expected = convert_mel(mel, TACOTRON2, "nanoflow-db-22k")
    converted = convert_mel(mel.astype(f"{order}f4"), TACOTRON2, "nanoflow-db-22k")
    np.testing.assert_array_equal(converted, expected)


@pytest.mark.parametrize("mel", [np.full((80, 2), -3), torch.full((80, 2), -3)])
def test_a_mel_of_integers_is_refused(mel: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(VocoderError, match=r"mel: is torch\.int64, .* give floats"):
        convert_mel(mel, TACOTRON2, "nanoflow-db-22k")
