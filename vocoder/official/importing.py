"""Checkpoints of published code bases as models of ours.

Each family of models is recognised and translated by a file of this folder:

    recognises(state)            whether a state dict is one of its own
    translate(state, config)     our model's name, its configuration, and the tensors in our names
    data(config, model_config)   the mels or images that the published code trains on
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.files.text import read_text
from vocoder.files.torch_files import Inert, read_torch_file
from vocoder.models.families.filling import empty_model, fill
from vocoder.models.families.flow import FlowModel
from vocoder.official import flowavenet, glow, marscf, waveflow, waveglow
from vocoder.registry import find_model

# The last takes what the others do not know, and says what it lacks.
_FAMILIES: tuple[ModuleType, ...] = (glow, marscf, waveglow, flowavenet, waveflow)


def import_official(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> FlowModel:
    """Build the model that a published state dict describes.

    Args:
        state_dict: The tensors by name, as the published training code saves them. A leading
            `module.` is dropped, and so is a stray `h_cache`; weights may be weight-normed in the
            old or the new way, or folded, and in half precision.
        config: The published JSON (of an image model `hparams.json`), its section for the model, or
            the constructor arguments. WaveGlow and FloWaveNet need none.

    Returns:
        A model in eval mode; `inverse` and `forward` agree with the published code's.

    Raises:
        VocoderError: The tensors do not fit the configuration.
    """
    state = _normalised(state_dict)
    return _build(_family(state), state, config or {})


def import_official_file(
    path: str | Path, config_path: str | Path | None, out: str | Path
) -> FlowModel:
    """Read a published checkpoint and its JSON, and write a checkpoint of ours to `out`.

    Nothing that the file names is imported or run; see `read_torch_file`.

    Args:
        path: A file of `torch.save`: a state dict, alone or under `model` or `state_dict`, or a
            WaveGlow that was pickled whole.
        config_path: the published JSON; None is the configuration that the checkpoint holds, or
            what its tensors tell.
        out: the checkpoint to write.

    Raises:
        VocoderError: A file is missing, damaged, or does not fit the other.
    """
    given = {} if config_path is None else _read_json(Path(config_path))
    if not Path(path).is_file():
        raise VocoderError(f"{path}: no such checkpoint file")
    saved = read_torch_file(path, waveglow.INERT)
    try:
        state, config = _find_state(saved)
        config |= given
        state = _normalised(state)
        family = _family(state)
        model = _build(family, state, config)
        data = family.data(config, model.config)
    except VocoderError as error:
        of_config = config_path is not None and str(error).startswith("official config")
        raise VocoderError(f"{config_path if of_config else path}: {error}") from None
    steps = [saved.get(key, 0) for key in ("iteration", "global_step")] if _is_dict(saved) else [0]
    checkpoint.save(out, model, data, step=next((s for s in steps if type(s) is int and s), 0))
    return model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(read_text(path))
    except FileNotFoundError:
        raise VocoderError(f"{path}: no such file; give the published JSON") from None
    except VocoderError:
        raise
    except (ValueError, RecursionError) as error:
        raise VocoderError(f"{path}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise VocoderError(f"{path}: expected a JSON object")
    return config


def _find_state(saved: Any) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Return the state dict in what a file holds, and the configuration beside it."""
    config: dict[str, Any] = {}
    state = saved
    if _is_dict(saved):
        state = next((saved[key] for key in ("model", "state_dict") if key in saved), saved)
        config = dict(saved["config"]) if _is_dict(saved.get("config")) else {}
    if isinstance(state, Inert):
        tensors, told = waveglow.unpack(state)
        return tensors, config | told
    if not _is_dict(state) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise VocoderError("holds no state dict under `model` or `state_dict`")
    return state, config


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _normalised(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without a prefix, and those of half precision in float32."""
    narrow = (torch.float16, torch.bfloat16)
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {
        name: tensor.float() if tensor.dtype in narrow else tensor
        for name, tensor in named.items()
        if name != "h_cache"
    }


def _family(state: Mapping[str, Tensor]) -> ModuleType:
    return next(family for family in _FAMILIES if family.recognises(state))


def _build(family: ModuleType, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> FlowModel:
    name, model_config, tensors = family.translate(state, config)
    model_class, _ = find_model(name)
    try:
        return fill(empty_model(model_class, model_config, len(tensors)), tensors)
    except ValueError as error:
        raise VocoderError(f"official checkpoint: {error}") from None
