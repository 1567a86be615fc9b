"""Whitened: which models may stand behind the filter, and that nothing else is different."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from click.testing import CliRunner
from helpers import make_corpus, perturb
from torch import Tensor

from vocoder import checkpoint
from vocoder.cli import commands
from vocoder.config import ConfigError
from vocoder.mel.presets import PRESETS
from vocoder.models.nanoflow import NanoFlow
from vocoder.models.whitened import Whitened, WhitenedConfig
from vocoder.recipe import Recipe
from vocoder.training.trainer import Trainer
from vocoder.voice.flow import FlowVocoder

PRESET = PRESETS["tacotron2-22k"]
NANOFLOW = {"name": "nanoflow", "channels": 6, "n_layers": 2, "n_flows": 2, "flow_embedding": 4}
WAVEGLOW = {"name": "waveglow", "channels": 4, "n_layers": 2, "n_flows": 2}
FLOWAVENET = {"name": "flowavenet", "channels": 4, "n_blocks": 3, "n_flows": 2}


def some_model(inner: dict[str, Any], **settings: Any) -> Whitened:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Whitened(WhitenedConfig(preset=PRESET, inner=inner, **settings))
    return perturb(model, size=0.05).eval()


def some_mel(n_frames: int) -> Tensor:
    return -7 + 5 * torch.rand(80, n_frames, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("inner", [NANOFLOW, WAVEGLOW, FLOWAVENET], ids=lambda inner: inner["name"])
@torch.no_grad()
def test_a_crop_with_its_history_is_whitened_as_in_the_whole(inner: dict[str, Any]) -> None:
    model = some_model(inner, order=100).double()
    assert model.config.history == 128
    before, after = model.config.mel_context
    hop, n = model.hop_length, before + 4 + after
    mel = some_mel(n)[None].double()
    x = 0.1 * torch.randn(1, n * hop, dtype=torch.float64)
    lo, hi = before * hop, (before + 4) * hop
    history = x[:, lo - 128 : lo]
    whole, gains = model.whiten(x, mel)
    crop, own_gains = model.whiten(x[:, lo:hi], mel, lo, history)
    torch.testing.assert_close(crop, whole[:, lo:hi], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(own_gains, gains[:, lo:hi])
    # The losses are those of the flow, and of the history too.
    nll = model.losses(x[:, lo:hi], mel, lo, history)["nll"]
    z, logdet = model(x[:, lo:hi], mel, lo, history)
    expected = (0.5 * z.square().sum() - logdet.sum()) / z.numel() + 0.5 * torch.log(
        torch.tensor(2 * torch.pi)
    )
    torch.testing.assert_close(nll, expected.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_causal_inner_model_streams_exactly(lookahead: int) -> None:
    voice = FlowVocoder(
        some_model({**NANOFLOW, "lookahead_frames": lookahead}), PRESET, device="cpu"
    )
    mel = some_mel(31)
    whole = voice.synthesize(mel, seed=3)
    stream = voice.stream(mel.split([1, 12, 18], dim=1), seed=3)
    assert stream.latency_frames == 4 + max(lookahead, 1)  # a block, and a frame for the filter
    assert (torch.cat(list(stream)) - whole).abs().max() <= 1e-4 * whole.abs().max()


def test_checkpointing_reaches_the_inner_model() -> None:
    model = some_model(NANOFLOW)
    model.checkpointing = True
    assert model.excitation.checkpointing
    assert not NanoFlow.checkpointing


def test_a_recipe_spells_the_inner_model_out() -> None:
    model = {"name": "whitened", "inner": {**NANOFLOW, "channels": "12"}}
    recipe = Recipe.from_dict({"model": model, "preset": "speecht5-16k"})
    assert recipe.config.preset == PRESETS["speecht5-16k"]
    assert recipe.config.inner["channels"] == 12
    assert recipe.config.inner["n_height"] == 16
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 513}, "order must lie between 0 and half"),
        ({"inner": {}}, "inner.name: missing"),
        ({"inner": {"name": "nanoflo"}}, "unknown model 'nanoflo'; did you mean 'nanoflow'"),
        ({"inner": {"name": "glow"}}, "glow is a model of images"),
        ({"inner": {"name": "sourceflow"}}, "sourceflow filters by itself"),
        ({"inner": {"name": "whitened"}}, "whitened filters by itself"),
        ({"inner": {"name": "nanoflow", "chanels": 4}}, "chanels: unknown key.*'channels'"),
        ({"inner": {"name": "nanoflow", "upsample_strides": [8, 16]}}, "gives hop_length 128"),
        ({"inner": {"name": "nanoflow", "n_mels": 40}}, "gives n_mels 40"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe.from_dict({"model": {"name": "whitened", **settings}})


def test_it_is_trained_stored_and_described(tmp_path) -> None:  # type: ignore[no-untyped-def]
    train = {"steps": 4, "batch_size": 2, "segment_length": 1024, "log_every": 4, "save_every": 4}
    recipe = Recipe.from_dict(
        {
            "model": {"name": "whitened", "order": 16, "inner": FLOWAVENET},
            "train": {**train, "eval_every": 4},
        }
    )
    data = make_corpus(tmp_path / "corpus")
    path = Trainer(recipe, data, tmp_path / "run").fit()
    stored = checkpoint.load(path)
    assert stored.model.config == recipe.config
    assert all(flag for name, flag in stored.model.named_buffers() if "initialised" in name)
    told = CliRunner().invoke(commands, ["info", str(path)]).output
    assert "flowavenet, behind a filter of order 16" in told
