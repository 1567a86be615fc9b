"""Checkpoints of the published code, L0SG/NanoFlow and L0SG/WaveFlow, as models of ours.

Each family of models is recognised and translated by a file of this folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocoder import checkpoint
from vocoder.data.images.description import ImageDescription
from vocoder.errors import VocoderError
from vocoder.mel.presets import get_preset
from vocoder.models.families.flow import FlowModel
from vocoder.models.families.image_flow import ImageFlow
from vocoder.official import glow, marscf, waveflow
from vocoder.registry import find_model


def import_official(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> FlowModel:
    """Build the model that a published state dict describes.

    Args:
        state_dict: as the published training code saves it. A leading `module.` is dropped, and so
            is a stray `h_cache`; weights may be weight-normed in the old or the new way, or folded.
        config: the published JSON (of an image model `hparams.json`), its section
            `waveflow_config`, or the constructor arguments.

    Returns:
        A model in eval mode; `inverse` and `forward` agree with the published code's.

    Raises:
        VocoderError: the tensors do not fit the configuration.
    """
    state = {
        name.removeprefix("module."): tensor
        for name, tensor in state_dict.items()
        if name.removeprefix("module.") != "h_cache"
    }
    settings = config.get("waveflow_config", config)
    if not isinstance(settings, Mapping):
        raise VocoderError("waveflow_config: expected a mapping")
    family = next((f for f in (glow, marscf) if f.recognises(state)), waveflow)
    name, model_config, tensors = family.translate(state, settings)
    model_class, _ = find_model(name)
    with torch.device("meta"):
        model = model_class(model_config)
    try:
        checkpoint.check_tensors(model.state_dict(), tensors)
    except ValueError as error:
        raise VocoderError(f"official checkpoint: {error}") from None
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def import_official_file(path: str | Path, config_path: str | Path, out: str | Path) -> FlowModel:
    """Read a published checkpoint and its JSON, and write a checkpoint of ours to `out`.

    The file is unpickled with `weights_only`, which admits tensors and plain values alone.

    Raises:
        VocoderError: a file is missing, damaged, or does not fit the other.
    """
    try:
        config = json.loads(Path(config_path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VocoderError(f"{config_path}: no such file; give the published JSON") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise VocoderError(f"{config_path}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise VocoderError(f"{config_path}: expected a JSON object")
    if not Path(path).is_file():
        raise VocoderError(f"{path}: no such checkpoint file")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; each means the same to the caller
        reason = str(error).splitlines()[0]
        raise VocoderError(f"{path}: not a checkpoint of tensors alone: {reason}") from None
    state = saved.get("model", saved) if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise VocoderError(f"{path}: holds no state dict under `model`")
    try:
        model = import_official(state, config)
    except VocoderError as error:
        raise VocoderError(f"{path}: {error}") from None
    step = saved.get("iteration", 0)
    step = step if isinstance(step, int) else 0
    checkpoint.save(out, model, _describe(model, config), step=step)
    return model


def _describe(model: FlowModel, config: Mapping[str, Any]) -> checkpoint.DataDescription:
    """Return the mels or images that the published code trains on by this configuration."""
    if isinstance(model, ImageFlow):
        return ImageDescription(model.image_shape, dataset=str(config.get("dataset", "")))
    data = config.get("data_config", {})
    return get_preset(
        "nanoflow-db-22k" if waveflow.is_true(data.get("use_dbmel")) else "tacotron2-22k"
    )
