"""The published FloWaveNet's outputs, and what its checkpoints leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden, state_of

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.flows.linear import SignedActNorm
from vocoder.models.families.flow import standard_normal_log_prob
from vocoder.models.flowavenet import FloWaveNet, FloWaveNetConfig
from vocoder.official.importing import import_official, import_official_file

FILES = [
    "flowavenet",
    "flowavenet-split1",
    "flowavenet-odd",
    "flowavenet-additive",
    "flowavenet-2018",
]


def imported(name: str) -> tuple[FloWaveNet, dict[str, torch.Tensor]]:
    tensors, config = golden(name)
    model = import_official(state_of(tensors), config)
    assert isinstance(model, FloWaveNet)
    return model, tensors


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Compare relative to the size of the whole tensor."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_reference_likelihood(name: str) -> None:
    model, tensors = imported(name)
    audio, mel = tensors["in.audio"], tensors["in.mel"]
    assert_near(model.upsample(mel), tensors["out.upsampled_mel"])
    z, log_derivatives = model.trace(audio, mel)
    assert_near(z, tensors["out.noise"])
    # The published logdet is that of the flows, and log_p that of the priors.
    is_prior = torch.zeros(len(log_derivatives), dtype=torch.bool)
    for i, b in enumerate(model.config.split_blocks):
        is_prior[(b + 1) * model.config.n_flows + i] = True
    sums = torch.stack([d.sum() for d in log_derivatives])
    logdet = sums[~is_prior].sum() / audio.numel()
    log_p = (standard_normal_log_prob(z).sum() + sums[is_prior].sum()) / audio.numel()
    assert_near(logdet[None], tensors["out.logdet"])
    assert_near(log_p[None], tensors["out.log_p"])
    nats = model.log_prob(audio, mel).sum() / audio.numel()
    assert abs(nats + tensors["out.loss"]) <= 1e-4


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("temperature", [0.8, 1.0])
@torch.no_grad()
def test_reference_synthesis(
    name: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tensors = imported(name)
    z, mel = temperature * tensors["in.noise"], tensors["in.mel"]
    if name == "flowavenet-odd":
        # After an odd number of flows the published inverse starts with the halves of the
        # conditioning exchanged, and so is none.
        usual = model._conditioning
        monkeypatch.setattr(
            model, "_conditioning", lambda *given: usual(*given).roll(model.n_mels // 2, 1)
        )
    assert_near(model.inverse(z, mel), tensors[f"out.audio.temp_{temperature}"])


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_the_inverse_gives_the_audio_back(name: str) -> None:
    model, tensors = imported(name)
    for inverse in (model.inverse, model.fold().inverse):
        assert_near(inverse(tensors["out.noise"], tensors["in.mel"]), tensors["in.audio"])


@pytest.mark.parametrize("name", ["flowavenet", "flowavenet-2018"])
@torch.no_grad()
def test_the_first_batch_sets_the_norms_as_published(name: str) -> None:
    model, tensors = imported(name)
    expected = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    norms = [module for module in model.modules() if isinstance(module, SignedActNorm)]
    assert norms
    for norm in norms:
        for tensor in (norm.bias, norm.log_scale, norm.initialised):
            tensor.zero_()
    audio, mel = tensors["init.audio"], tensors["init.mel"]
    model.initialise(audio, mel)
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], atol=1e-5, rtol=1e-5, msg=key)
    total = tensors["init.log_p"] + tensors["init.logdet"]
    assert_near(model.log_prob(audio, mel).sum()[None] / audio.numel(), total)


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = FloWaveNet(FloWaveNetConfig())
        unsplit = FloWaveNet(FloWaveNetConfig(blocks_per_split=8))
    normed = sum(p.numel() for n, p in model.named_parameters() if n.endswith(".original0"))
    assert model.n_parameters() == 182_644_788
    assert model.n_parameters() - normed == 182_469_170
    assert unsplit.n_parameters() == 181_129_876
    # The residual half of the last layer of 48 flows and a prior: g, v and bias of 256 rows.
    assert model.n_parameters() - model.n_parameters(effective=True) == 49 * 256 * (256 + 2)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@torch.no_grad()
def test_checkpoints_of_a_training(zipped: bool, prefix: str, tmp_path: Path) -> None:
    model, tensors = imported("flowavenet")
    path, out = tmp_path / "checkpoint_step000100000.pth", tmp_path / "voice.safetensors"
    saved = {
        "state_dict": {f"{prefix}{name}": t for name, t in state_of(tensors).items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "scheduler": {"gamma": 0.5},
        "global_step": 100_000,
        "global_epoch": 7,
    }
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    import_official_file(path, None, out)
    stored = checkpoint.load(out)
    assert (stored.step, stored.model_name) == (100_000, "flowavenet")
    assert_near(stored.model.inverse(tensors["out.noise"], tensors["in.mel"]), tensors["in.audio"])
    assert stored.preset.f_min == 125.0  # FloWaveNet's own mels
    assert stored.model.config == model.config


def test_dilations_that_the_tensors_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    tensors, _ = golden("flowavenet-2018")
    path, out = tmp_path / "old.pth", tmp_path / "voice.safetensors"
    torch.save({"state_dict": state_of(tensors)}, path)
    with pytest.raises(VocoderError, match=r'old.pth: .* "dilation_base": 3 for one of before'):
        import_official_file(path, None, out)
    assert not out.exists()
    (tmp_path / "config.json").write_text(json.dumps({"dilation_base": 3}))
    import_official_file(path, tmp_path / "config.json", out)
    assert checkpoint.load(out).config.dilation_base == 3


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda s: s, {"n_flow": 6}, "n_flow is 6, but the tensors are of a model with 2"),
        (lambda s: s, {"affine": False}, "affine is False"),
        (lambda s: s, {"dilation_base": 0}, "dilation_base must be at least 1"),
        (lambda s: drop(s, "blocks.2.flows.1.actnorm.loc"), {}, "5 flows in 3 blocks"),
        (lambda s: drop(s, "blocks.1.flows.0.actnorm.scale"), {}, "missing flows.1.0.norm"),
        (
            lambda s: drop(s, "blocks.0.flows.0.coupling.net.res_blocks.0.filter_conv_c.weight_v"),
            {},
            "filter_conv_c is missing",
        ),
        (
            lambda s: {**s, "blocks.0.prior.front_conv.0.conv.bias": torch.zeros(8)},
            {},
            "missing priors.0",
        ),
        (
            lambda s: {**s, "blocks.2.prior.front_conv.0.conv.bias": torch.zeros(8)},
            {},
            r"splits after blocks \[1, 2\]",
        ),
    ],
)
def test_state_dicts_and_configs_that_do_not_fit(
    change: Any, config: dict[str, Any], message: str
) -> None:
    tensors, _ = golden("flowavenet")
    with pytest.raises(VocoderError, match=message):
        import_official(change(state_of(tensors)), config)


def drop(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}
