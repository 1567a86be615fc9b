"""Checkpoints describe themselves, and a damaged or foreign one is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers import audio_and_mel, tiny_models
from image_models import CONFIGS, build, images
from voices import TRAINED

from vocoder import checkpoint
from vocoder.config import to_dict
from vocoder.data.images.description import ImageDescription
from vocoder.errors import VocoderError
from vocoder.mel.presets import get_preset
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.voice.load import load

PRESET = get_preset("tacotron2-22k")


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "voice.safetensors"
    config = NanoFlowConfig(channels=4, n_layers=2, n_flows=2, flow_embedding=4)
    checkpoint.save(path, NanoFlow(config), PRESET, step=7, metrics={"a": 1.5})
    return path


@pytest.mark.parametrize("name", tiny_models())
def test_round_trip(tmp_path: Path, name: str) -> None:
    model = tiny_models()[name]
    checkpoint.save(tmp_path / "m.safetensors", model, PRESET, recipe={"name": "r"}, step=3)
    loaded = checkpoint.load(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    assert (loaded.step, loaded.recipe, loaded.preset) == (3, {"name": "r"}, PRESET)
    assert not loaded.model.training
    x, mel = audio_and_mel(model)
    for ours, theirs in zip(loaded.model(x, mel), model(x, mel), strict=True):
        assert torch.equal(ours, theirs)


IMAGES = ImageDescription((3, 4, 8), 17, "arrays", "first", 8, 5, 1, "f" * 64)


@pytest.fixture
def image_model(tmp_path: Path) -> Path:
    path = tmp_path / "image.safetensors"
    checkpoint.save(path, build("glow"), IMAGES)
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip_of_image_models(tmp_path: Path, name: str) -> None:
    """To the last bit, the initialised norms included."""
    model = build(name)
    x = images(model).float()
    model.initialise(x)
    data = replace(IMAGES, shape=model.image_shape)
    checkpoint.save(tmp_path / "m.safetensors", model, data, step=3)
    loaded = checkpoint.load(tmp_path / "m.safetensors")
    assert (loaded.config, loaded.data, loaded.images) == (model.config, data, data)
    assert not loaded.model.training
    for ours, theirs in zip(loaded.model(x), model.eval()(x), strict=True):
        assert torch.equal(ours, theirs)
    ours, theirs = loaded.model.inverse(z := torch.zeros(2, model.n_dims)), model.inverse(z)
    assert torch.equal(ours, theirs)


def test_a_voice_is_no_image_model_nor_the_reverse(voice: Path, image_model: Path) -> None:
    assert not checkpoint.is_of_images(voice)
    assert checkpoint.is_of_images(image_model)
    with pytest.raises(VocoderError, match=r"voice\.safetensors: a nanoflow is a voice and knows"):
        _ = checkpoint.load(voice).images
    with pytest.raises(VocoderError, match="is not a voice and makes no sound; `vocoder sample`"):
        _ = checkpoint.load(image_model).preset
    with pytest.raises(VocoderError, match="is not a voice and makes no sound; `vocoder sample`"):
        load(image_model, device="cpu")


def described(**change: Any) -> dict[str, Any]:
    return {"images": to_dict(IMAGES) | change}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (described(shape=[3, 8, 8]), "what it was trained on does not fit a glow"),
        (described(shape=[4, 8]), r"images: shape must be \(C, H, W\)"),
        (described(shape="x"), r"images\.shape"),
        (described(n_values=1), "images: n_values must be 2 to 256, got 1"),
        (described(datasett="x"), r"images\.datasett: unknown key; did you mean 'dataset'"),
        ({"images": 3}, "images: expected a mapping"),
        ({"model": "waveflow", "config": {}}, "what it was trained on does not fit a waveflow"),
    ],
)
def test_images_that_do_not_fit(image_model: Path, change: dict[str, Any], message: str) -> None:
    rewrite(image_model, change)
    with pytest.raises(VocoderError, match=message) as caught:
        checkpoint.load(image_model)
    assert str(image_model) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_from_before_images_were_known_is_still_read() -> None:
    stored = checkpoint.load(TRAINED)
    assert (stored.model_name, stored.preset.name) == ("nanoflow", "tacotron2-22k")


def rewrite(path: Path, change: dict[str, Any], drop: str | None = None) -> None:
    """Change the header of a checkpoint and drop one of its tensors."""
    header = checkpoint.read_header(path) | change
    tensors = safetensors.torch.load_file(path)
    tensors.pop(drop or "", None)
    safetensors.torch.save_file(tensors, path, {"vocoder": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nanoflaw"}, "unknown model 'nanoflaw'; did you mean 'nanoflow'"),
        ({"model": "os"}, "unknown model 'os'"),
        ({"format": 2}, "format 2 is not 1; upgrade vocoder"),
        ({"config": {"channels": 5}}, "mis-shaped"),
        ({"config": {"chanels": 4}}, "config.chanels: unknown key"),
        ({"config": 3}, "config: expected a mapping"),
        ({"fingerprint": "0"}, "fingerprint"),
        ({"preset": {}}, "preset"),
    ],
)
def test_header_that_does_not_fit(voice: Path, change: dict[str, Any], message: str) -> None:
    rewrite(voice, change)
    with pytest.raises(VocoderError, match=message) as caught:
        checkpoint.load(voice)
    assert str(voice) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_tensor_is_named(voice: Path) -> None:
    rewrite(voice, {}, drop="model.nets.0.front.bias")
    with pytest.raises(VocoderError, match=r"missing nets\.0\.front\.bias"):
        checkpoint.load(voice)


def test_every_truncation_is_refused(voice: Path) -> None:
    whole = voice.read_bytes()
    for length in {0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1}:
        voice.write_bytes(whole[:length])
        with pytest.raises(VocoderError, match=r"voice\.safetensors: not a whole safetensors"):
            checkpoint.load(voice)


def test_foreign_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(VocoderError, match="not a vocoder checkpoint"):
        checkpoint.load(path)
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, {"vocoder": "{"})
    with pytest.raises(VocoderError, match="header is damaged"):
        checkpoint.load(path)
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, {"vocoder": '{"format": 1}'})
    with pytest.raises(VocoderError, match="header lacks 'model'"):
        checkpoint.load(path)


def test_run_folder_means_its_best_then_its_newest(voice: Path, tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "none")
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(VocoderError, match="holds no checkpoint"):
        checkpoint.load(run)
    for name in ("checkpoint-000000002", "checkpoint-000000010", "best"):
        (run / f"{name}.safetensors").write_bytes(voice.read_bytes())
        assert checkpoint.load(run).path.stem == name


def test_checkpoint_is_readable_as_any_new_file_is(voice: Path) -> None:
    (voice.parent / "other").touch()
    assert voice.stat().st_mode == (voice.parent / "other").stat().st_mode


def test_unwritable_folder_leaves_nothing(tmp_path: Path) -> None:
    model = tiny_models()["nanoflow"]
    with pytest.raises(OSError, match="none"):
        checkpoint.save(tmp_path / "none" / "v.safetensors", model, PRESET)
    assert list(tmp_path.iterdir()) == []
