"""The published image code's outputs on its own checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden, perturb, state_of, top_latent

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.models.families.image_flow import ImageFlow
from vocoder.models.glow import Glow, GlowConfig
from vocoder.official.importing import import_official, import_official_file

FILES = ["image-glow", "image-nanoflow-naive", "image-nanoflow-decomp", "image-nanoflow"]


def published(name: str) -> tuple[dict[str, torch.Tensor], dict[str, object], torch.Tensor]:
    """Return the state dict, the configuration, and images."""
    tensors, config = golden(name)
    return state_of(tensors), config, tensors["in.x"]


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_reference_tensors(name: str) -> None:
    tensors, config = golden(name)
    model = import_official(state_of(tensors), config)
    assert isinstance(model, ImageFlow)
    x = tensors["in.x"]
    eps, _ = model(x)
    assert (top_latent(model, eps) - tensors["out.z"]).abs().max() <= 1e-4
    expected = tensors["out.logdet_with_split_priors"] + tensors["out.top_log_prob"]
    assert ((model.log_prob(x) - expected).abs() <= 1e-3 + 1e-5 * expected.abs()).all()
    assert (model.inverse(eps) - x).abs().max() <= 1e-5
    n_published = sum(
        tensor.numel()
        for key, tensor in state_of(tensors).items()
        if not key.endswith((".p", ".sign_s", "prior_h"))
    )
    assert model.n_parameters() == n_published


def large_glow_state(model: ImageFlow) -> dict[str, torch.Tensor]:
    """Write our weights as the published code does: its networks are listed by layer."""

    def norm(theirs: str, part: Any) -> dict[str, torch.Tensor]:
        return {f"{theirs}.actnorm.bias": part.bias, f"{theirs}.actnorm.logs": part.log_scale}

    def zero_conv(theirs: str, conv: Any) -> dict[str, torch.Tensor]:
        parts = {"conv.weight": conv.weight, "conv.bias": conv.bias, "logs": conv.log_scale}
        return {f"{theirs}.{part}": tensor for part, tensor in parts.items()}

    split, top = (prior.head for prior in model.flow.priors)
    state = zero_conv("flow.layers.3.conv", split) | zero_conv("learn_top_fn", top)
    state["prior_h"] = torch.zeros(1, 48, 2, 2)
    for index, (i, k) in {1: (0, 0), 2: (0, 1), 5: (1, 0), 6: (1, 1)}.items():
        layer, estimator = f"flow.layers.{index}", f"flow.estimator.{index}"
        step = model.flow.steps[i][k]
        lower, upper, _ = step.mix.factors()
        weight = ((lower + torch.eye(len(lower))) @ upper)[step.mix.permutation]
        state[f"{layer}.invconv.weight"] = weight  # as without the factorisation
        state |= norm(layer, step.norm) | zero_conv(f"{layer}.conv_proj", model.heads[i][k])
        for n, conv in enumerate(model.nets[i][k].convs, start=1):
            state[f"{estimator}.conv{n}.conv.weight"] = conv.conv.weight
            state |= norm(f"{estimator}.conv{n}", conv)
    return state


@torch.no_grad()
def test_large_glow_without_factorised_convolutions() -> None:
    sizes = {"image_height": 8, "image_width": 8, "n_levels": 2, "n_steps": 2, "channels": 4}
    model = perturb(Glow(GlowConfig(**sizes, network="six", parity=True)), size=0.1)
    config = {"model_type": "glow_large", "hidden_channels": 4, "K": 2, "L": 2}
    x = torch.rand(2, 3, 8, 8) - 0.5
    restored = import_official(large_glow_state(model), config)
    assert restored.config == model.config
    for ours, theirs in zip(restored(x), model(x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_file_becomes_a_checkpoint(tmp_path: Path) -> None:
    state, config, x = published("image-nanoflow")
    hparams = {key: value for key, value in config.items() if key not in ("family", "image_shape")}
    hparams |= {"model_type": "nanoflow", "dataset": "cifar10", "flow_permutation": "invconv"}
    source, settings, out = tmp_path / "glow_7.pth", tmp_path / "h.json", tmp_path / "m.safetensors"
    strays = {"module.flow.layers.1.invconv.l_mask": torch.ones(12, 12), "h_cache": torch.ones(1)}
    prefixed = {f"module.{key}": tensor for key, tensor in state.items()}
    torch.save({"model": prefixed | strays, "optimizer": {"state": {}}}, source)
    settings.write_text(json.dumps(hparams))
    import_official_file(source, settings, out)
    saved = checkpoint.load(out)
    assert (saved.model_name, saved.images.shape) == ("nanoglow", (3, 16, 16))
    assert saved.images.dataset == "cifar10"
    with torch.no_grad():
        expected, _ = import_official(state, config)(x)
        torch.testing.assert_close(saved.model(x)[0], expected, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": 3}, "missing"),
        ({"K": 1}, "unexpected|missing"),
        ({"hidden_channels": 9}, "mis-shaped"),
        ({"flow_embed_dim": 3}, "mis-shaped"),
        ({"image_shape": [16, 16, 1]}, "mis-shaped"),
        ({"image_shape": [15, 16, 3]}, "must divide by 4"),
        ({"image_shape": "16"}, r"must be \[H, W, C\]"),
        ({"L": None}, "L is missing"),
        ({"family": "image-glow"}, "names 'image-glow'.* of a nanoflow model"),
        ({"flow_permutation": "shuffle"}, "never saved"),
        ({"y_condition": True}, "class-conditional"),
    ],
)
def test_config_that_does_not_fit(change: dict[str, object], message: str) -> None:
    state, config, _ = published("image-nanoflow")
    with pytest.raises(VocoderError, match=message) as caught:
        import_official(state, config | change)
    assert "\n" not in str(caught.value)


def test_model_without_learnt_top_is_standard_normal_there() -> None:
    state, config, x = published("image-glow")
    plain = {key: tensor for key, tensor in state.items() if not key.startswith("learn_top_fn")}
    with pytest.raises(VocoderError, match=r"missing flow\.priors\.1"):
        import_official(plain, config)
    model = import_official(plain, config | {"learn_top": False})
    assert isinstance(model, ImageFlow)
    with torch.no_grad():
        eps, _ = model(x)
        torch.testing.assert_close(top_latent(model, eps)[0], eps[0, -24 * 16 :].view(24, 4, 4))
