"""The net that reads the pitch off a mel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vocoder.nets.pitch import REACH, PitchNet

LOW, HIGH = 55.0, 420.0


def some_net(channels: int = 32, n_mels: int = 40) -> PitchNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PitchNet(n_mels, channels, LOW, HIGH)


def harmonics(f0: Tensor, n_mels: int = 40) -> Tensor:
    """Return spectra (B, M, F) of bands 25 Hz wide, with peaks at the multiples of a pitch."""
    bands = (torch.arange(n_mels) + 1.0)[:, None] * 25
    teeth = torch.cos(2 * math.pi * bands / f0.clamp_min(1).unsqueeze(1))
    return torch.where(f0.unsqueeze(1) > 0, 3 * teeth, -3.0)


def test_it_learns_the_pitch_of_made_up_voices() -> None:
    net = some_net(channels=64)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)

    def some_pitch() -> Tensor:
        start = torch.rand(8, 1, generator=generator) * 1.2 + math.log(100)
        glide = torch.rand(8, 1, generator=generator) * 0.02 - 0.01
        f0 = (start + glide * torch.arange(20)).exp()
        return f0 * (torch.rand(8, 1, generator=generator) > 0.3)

    for _ in range(250):
        f0 = some_pitch()
        optimizer.zero_grad()
        net.loss(harmonics(f0), f0).backward()
        optimizer.step()
    f0 = some_pitch()
    with torch.no_grad():
        found = net(harmonics(f0))
    voiced = f0 > 0
    assert torch.equal(found > 0, voiced)
    cents = 1200 * (found[voiced] / f0[voiced]).log2().abs()
    assert cents.median() < 20


@torch.no_grad()
def test_an_item_of_a_padded_batch_has_the_pitch_that_it_has_alone() -> None:
    net = some_net().double()
    net.head.bias[-1] = 0.2  # a voice in some frames and none in others
    spectra = torch.randn(3, 40, 25, dtype=torch.float64)
    lengths = torch.tensor([25, 1, 12])
    batch = net(spectra, lengths)
    for item, n in enumerate(lengths.tolist()):
        alone = net(spectra[item : item + 1, :, :n])
        torch.testing.assert_close(batch[item, :n], alone[0], atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_a_pitch_depends_on_its_reach_and_no_more() -> None:
    net = some_net().double()
    spectra = torch.randn(1, 40, 60, dtype=torch.float64)
    whole = net(spectra)
    frame = 30
    part = net(spectra[..., frame - REACH : frame + REACH + 1])
    torch.testing.assert_close(part[:, REACH], whole[:, frame], atol=1e-9, rtol=1e-9)
    logits = net.logits(spectra)
    spectra[..., frame + REACH] += 1
    changed = (net.logits(spectra) - logits).abs().amax(dim=(0, 1)).nonzero().flatten()
    assert int(changed[0]) == frame + 1  # one frame more is the median's


@torch.no_grad()
@pytest.mark.parametrize("value", [-30.0, 0.0, 30.0, 1e4])
def test_hostile_spectra_have_a_pitch_within_the_range_or_none(value: float) -> None:
    f0 = some_net()(torch.full((1, 40, 9), value))
    assert ((f0 == 0) | ((f0 >= LOW * 0.999) & (f0 <= HIGH * 1.001))).all()
