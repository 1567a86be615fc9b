"""Pulses of epochs, and of a pitch."""

from __future__ import annotations

import math

import pytest
import torch

from vocoder.nets.pulses import (
    N_FEATURES,
    Pulses,
    pack_pulses,
    packed_channels,
    pulse_features,
    pulses_of_epochs,
    pulses_of_pitch,
    unpack,
)

RATE, HOP = 16_000, 64


def test_the_phase_rises_from_epoch_to_epoch_and_pauses_have_none() -> None:
    epochs = torch.tensor([10, 110, 200, 900, 1000], dtype=torch.int32)
    phase, frequency = pulses_of_epochs(epochs, 0, 1100, shortest=40, longest=300)
    assert phase.shape == frequency.shape == (1, 1100)
    # Voiced after the first epoch of a stretch, up to and with the last.
    expected = torch.zeros(1100, dtype=torch.bool)
    expected[11:201] = expected[901:1001] = True
    assert torch.equal(frequency[0] > 0, expected)
    assert phase[0, 60] == pytest.approx(0.5)
    assert phase[0, 110] == 0  # an epoch
    assert phase[0, 155] == pytest.approx(0.5)
    assert frequency[0, 150] == pytest.approx(1 / 90)


def test_a_part_of_a_clip_has_the_pulses_of_the_whole() -> None:
    epochs = torch.tensor([10, 110, 200, 290])
    whole = pulses_of_epochs(epochs, 0, 400, 40, 300)
    for values, part in zip(whole, pulses_of_epochs(epochs, 130, 250, 40, 300), strict=True):
        assert torch.equal(values[:, 130:250], part)


@pytest.mark.parametrize("epochs", [[], [50]])
def test_without_two_epochs_there_is_no_voice(epochs: list[int]) -> None:
    pulses = pulses_of_epochs(torch.tensor(epochs, dtype=torch.int32), 0, 100, 40, 300)
    assert not any(values.any() for values in pulses)


def test_a_pitch_gives_so_many_pulses_a_second() -> None:
    f0 = torch.full((1, 250), 123.0)
    phase, frequency = pulses_of_pitch(f0, RATE, HOP, centre=0)
    assert ((phase.diff() < 0).sum() - 123).abs() <= 1  # in one second
    assert torch.allclose(frequency, torch.tensor(123.0 / RATE))


def test_a_voice_begins_and_ends_halfway_between_the_centres_of_frames() -> None:
    f0 = torch.tensor([[0.0, 0.0, 100.0, 200.0, 0.0, 0.0]])
    for centre in (0, HOP // 2):
        _, frequency = pulses_of_pitch(f0, RATE, HOP, centre)
        voiced = frequency[0].nonzero().flatten()
        assert int(voiced[0]) == 2 * HOP + centre - HOP // 2
        assert int(voiced[-1]) == 3 * HOP + centre + HOP // 2 - 1
        middle = 2 * HOP + centre + HOP // 2
        assert frequency[0, middle] * RATE == pytest.approx(math.sqrt(100 * 200), rel=1e-3)


def test_pieces_that_carry_their_phase_are_the_whole() -> None:
    f0 = (torch.rand(2, 30, dtype=torch.float64) - 0.3).clamp_min(0) * 300
    whole = pulses_of_pitch(f0, RATE, HOP, centre=20)
    phase: torch.Tensor | float = 0.0
    for lo, hi in ((0, 1), (1, 13), (13, 30)):
        part = pulses_of_pitch(f0, RATE, HOP, 20, phase, lo, hi)
        phase = part.phase[:, -1]
        for values, own in zip(whole, part, strict=True):
            torch.testing.assert_close(values[:, lo * HOP : hi * HOP], own, atol=1e-9, rtol=1e-9)


def test_packing_loses_nothing() -> None:
    pulses = pulses_of_pitch(torch.rand(3, 5) * 100 + 100, RATE, HOP, centre=0)
    mel = torch.randn(3, 7, 5)
    packed = torch.cat([mel, pack_pulses(pulses, HOP, 0.25)], dim=1)
    assert packed.shape == (3, 7 + packed_channels(HOP), 5)
    for offset, n_samples in ((0, 5 * HOP), (HOP, HOP), (HOP - 1, 2 * HOP)):
        told = unpack(packed, 7, offset, n_samples)
        assert torch.equal(told.mel, mel)
        assert (told.noise == 0.25).all()
        assert told.noise.shape == (3, n_samples)
        for ours, theirs in zip(told.pulses, pulses, strict=True):
            torch.testing.assert_close(ours, theirs[:, offset : offset + n_samples].float())


def test_features_are_finite_and_say_nothing_where_there_is_no_voice() -> None:
    pulses = pulses_of_pitch(torch.tensor([[0.0, 90.0, 400.0, 0.0]]), RATE, HOP, centre=0)
    features = pulse_features(Pulses(pulses.phase.float(), pulses.frequency), RATE)
    assert features.shape == (1, N_FEATURES, 4 * HOP)
    assert features.isfinite().all()
    voiced = pulses.frequency[0] > 0
    assert not features[0, :, ~voiced].any()
    assert (features[0, 0, voiced] == 1).all()
