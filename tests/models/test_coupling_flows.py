"""What WaveGlow and FloWaveNet promise beyond the laws of every voice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import audio_and_mel, coupling_models

from vocoder.models.families.coupling_flow import CouplingFlow
from vocoder.models.flowavenet import FloWaveNet, FloWaveNetConfig
from vocoder.models.waveglow import WaveGlow, WaveGlowConfig

MODELS = coupling_models()
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@each_model
def test_a_sample_depends_on_no_frame_beyond_the_reach(model: CouplingFlow) -> None:
    """Not on one beyond it, of mel or noise; and the bound is not idle."""
    assert model.reach is not None
    before, after = model.reach
    n_frames = before + after + 3
    x, mel = audio_and_mel(model, n_frames=n_frames, batch=1)
    hop = model.hop_length
    middle = slice((before + 1) * hop, (before + 2) * hop)
    by_z, by_mel = torch.autograd.functional.jacobian(
        lambda z, mel: model.inverse(z, mel)[0, middle], (x, mel)
    )
    frames_of_z = by_z[:, 0].abs().reshape(hop, n_frames, hop).amax(dim=(0, 2))
    frames_of_mel = by_mel[:, 0].abs().amax(dim=(0, 1))
    seen = (torch.maximum(frames_of_z, frames_of_mel) > 0).nonzero()[:, 0] - (before + 1)
    assert seen.min() >= -before
    assert seen.max() <= after
    assert seen.min() < -before / 2
    assert seen.max() > after / 2


@each_model
def test_a_piece_with_its_reach_is_that_of_the_whole(model: CouplingFlow) -> None:
    assert model.reach is not None
    before, after = model.reach
    hop = model.hop_length
    n_frames = before + after + 50
    z, mel = audio_and_mel(model, n_frames=n_frames, batch=1)
    with torch.no_grad():
        whole = model.inverse(z, mel)
        first = 5 * model.frames_per_cycle
        start = first + before
        last = start + 2 + after
        piece = model.inverse(z[:, first * hop : last * hop], mel[..., first:last])
    wanted = slice((start - first) * hop, (start + 2 - first) * hop)
    expected = whole[:, start * hop : (start + 2) * hop]
    torch.testing.assert_close(piece[:, wanted], expected, atol=1e-9, rtol=0)


@each_model
def test_a_crop_with_its_context_hears_the_mel_of_the_whole(model: CouplingFlow) -> None:
    x, mel = audio_and_mel(model, n_frames=10)
    hop = model.hop_length
    before, after = model.config.mel_context
    crop = mel[..., 4 - before : 6 + after]
    with torch.no_grad():
        z, _ = model(x[:, 4 * hop : 6 * hop], crop, before * hop)
        # The same crop, as part of a mel that does not end there.
        expected, _ = model(x[:, 4 * hop : 6 * hop], mel, 4 * hop)
    torch.testing.assert_close(z, expected, atol=1e-12, rtol=0)


@each_model
def test_checkpointing_changes_no_gradient(model: CouplingFlow) -> None:
    x, mel = audio_and_mel(model)
    gradients = []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        model.zero_grad()
        model.log_prob(x, mel).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    model.checkpointing = False
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@each_model
def test_flow_logdets_add_up_to_the_logdet(model: CouplingFlow) -> None:
    x, mel = audio_and_mel(model)
    with torch.no_grad():
        _, logdet = model(x, mel)
        total = sum(model.flow_logdets(x, mel)) * x.shape[1]
    assert total == pytest.approx(logdet.mean().item())


@pytest.mark.parametrize("kind", ["waveglow", "flowavenet"])
def test_a_new_model_is_the_identity_but_for_its_linear_maps(kind: str) -> None:
    """The couplings start at zero, and the norms from the first batch."""
    torch.manual_seed(0)
    model: CouplingFlow
    if kind == "waveglow":
        model = WaveGlow(WaveGlowConfig(channels=4, n_layers=2))
    else:
        model = FloWaveNet(FloWaveNetConfig(channels=4))
    x = 0.1 * torch.randn(2, 4 * 256) + 0.05
    mel = torch.randn(2, 80, 4)
    with torch.no_grad():
        model.initialise(x, mel)
        z, logdet = model(x, mel)
    if kind == "waveglow":  # rotations
        torch.testing.assert_close(z.square().sum(), x.square().sum())
        torch.testing.assert_close(logdet, torch.zeros(2), atol=1e-3, rtol=0)
    else:
        assert z.std() == pytest.approx(1, abs=0.05)
        assert z.mean() == pytest.approx(0, abs=0.05)


def test_only_without_whole_columns_in_a_frame_do_pieces_begin_at_some_frames_alone() -> None:
    cycles = {name: model.frames_per_cycle for name, model in MODELS.items()}
    assert {name: n for name, n in cycles.items() if n > 1} == {"waveglow-loose": 5}


def test_reach_of_the_published_sizes() -> None:
    with torch.device("meta"):
        assert WaveGlow(WaveGlowConfig()).reach == (99, 96)
        assert FloWaveNet(FloWaveNetConfig()).reach == (49, 49)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (WaveGlowConfig, {"n_group": 7}, "n_group 7 .* must be even"),
        (WaveGlowConfig, {"early_size": 1}, "early_size 1 must be even"),
        (WaveGlowConfig, {"early_every": 2}, "leaves no channels after 5 early outputs"),
        (WaveGlowConfig, {"kernel_size": 4}, "kernel_size must be odd"),
        (WaveGlowConfig, {"window": 255}, "window 255 leaves samples without a mel"),
        (WaveGlowConfig, {"n_flows": 0}, "n_flows must be at least 1"),
        (FloWaveNetConfig, {"n_mels": 5}, "n_mels 5: each flow hears half"),
        (FloWaveNetConfig, {"n_blocks": 9}, "n_blocks 9: 512 samples"),
        (FloWaveNetConfig, {"upsample_strides": ()}, "upsample_strides must be positive"),
        (FloWaveNetConfig, {"channels": 0}, "channels must be at least 1"),
    ],
)
def test_configurations_that_make_no_sense(
    config: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)


@pytest.mark.parametrize(
    ("name", "x", "mel", "message"),
    [
        ("waveglow", (1, 48), (1, 5, 2), "mel must be"),
        ("waveglow", (1, 49), (1, 4, 3), "not a multiple of the 6 rows"),
        ("waveglow", (1, 120), (1, 4, 2), "more than 2 frames"),
        ("flowavenet", (1, 48), (1, 5, 2), "mel must be"),
        ("flowavenet", (1, 49), (1, 4, 3), "not a multiple of the 8"),
        ("flowavenet", (1, 72), (1, 4, 2), "more than 2 frames"),
    ],
)
def test_shapes_that_do_not_fit(
    name: str, x: tuple[int, ...], mel: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS[name](torch.zeros(x).double(), torch.zeros(mel).double())
