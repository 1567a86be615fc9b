"""Judging a voice that is told epochs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import make_corpus

from vocoder import checkpoint
from vocoder.judging.voices import compare
from vocoder.mel.presets import get_preset
from vocoder.models.sourceflow import SourceFlow, SourceFlowConfig


@pytest.mark.parametrize("epochs", [True, False])
def test_its_likelihood_is_marked_and_left_out_where_the_corpus_has_no_epochs(
    tmp_path: Path, epochs: bool
) -> None:
    sizes = {"channels": 4, "n_layers": 2, "n_flows": 2, "flow_embedding": 4, "pitch_channels": 4}
    preset = get_preset("tacotron2-22k")
    torch.manual_seed(0)
    model = SourceFlow(SourceFlowConfig(preset=preset, order=16, **sizes))
    checkpoint.save(tmp_path / "voice.safetensors", model, preset, step=1, metrics={})
    data = make_corpus(tmp_path / "corpus", n_clips=2, epochs=epochs)
    comparison = compare([tmp_path / "voice.safetensors"], data, n_clips=1)
    (voice,) = comparison.voices
    assert ("nats_per_dim" in voice.values) == epochs
    assert "mel_distance" in voice.values
    told = "given the mel and the epochs" if epochs else "preprocess it with --epochs"
    assert any(told in note for note in comparison.notes)
