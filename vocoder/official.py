"""Checkpoints of the published code, L0SG/NanoFlow and L0SG/WaveFlow, as models of ours.

Those of images are read by `official_images` and `official_marscf`.

The published configuration names do not tell the architectures of the two repositories apart;
the state dict does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocoder import checkpoint, official_images, official_marscf
from vocoder.config import ConfigError, from_dict
from vocoder.data.image_description import ImageDescription
from vocoder.errors import VocoderError
from vocoder.models.base import FlowModel
from vocoder.models.glow import ImageFlow
from vocoder.presets import get_preset
from vocoder.registry import find_model

# Our field: its names in the published JSON and in the published constructors.
_FIELDS = {
    "n_mels": ("cin_channels", "cin_channel"),
    "channels": ("res_channels", "res_channel"),
    "n_height": ("n_height",),
    "n_layers": ("n_layer",),
    "n_layers_per_cycle": ("n_layer_per_cycle", "layers_per_dilation_h_cycle"),
    "n_flows": ("n_flow",),
    "flow_embedding": ("size_flow_embed",),
}
_VARIANTS = {"naive": "naive", "decomposed": "decomp", "full": ""}


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
    if official_images.is_image_state(state):
        name, model_config, tensors = official_images.translate(state, settings)
    elif official_marscf.is_marscf_state(state):
        name, model_config, tensors = official_marscf.translate(state, settings)
    else:
        name, model_config = _read_config(settings, state)
        tensors = _Translation(state, model_config).tensors()
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
    return get_preset("nanoflow-db-22k" if _truth(data.get("use_dbmel")) else "tacotron2-22k")


def _truth(value: object) -> bool:
    """The published configs write booleans as strings."""
    return value in (True, "true", "True")


def _read_config(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[str, Any]:
    if any(".proj.conv." in name for name in state):
        raise VocoderError(
            "official checkpoint: spline heads (proj.conv) were never released or documented; "
            "train one with model.transform=spline instead"
        )
    values: dict[str, Any] = {}
    for ours, theirs in _FIELDS.items():
        for name in theirs:
            if name in settings:
                values[ours] = settings[name]
    for required in ("channels", "n_height", "n_layers", "n_flows"):
        if required not in values:
            raise VocoderError(f"official config: {_FIELDS[required][0]} is missing")
    shared = any(name.startswith(("estimator.", "flow.")) for name in state)
    if shared:
        if any(name.startswith("flow.coupling.") for name in state):
            values["variant"] = "naive"
        else:
            full = "flows.0.multgate" in state
            values["variant"] = "full" if full else "decomposed"
        if values["variant"] != "full":
            values.pop("flow_embedding", None)
        name = "nanoflow"
    else:
        scaled = any(name.endswith(".scale") for name in state)
        bipartize = _truth(settings.get("bipartize")) or (
            settings.get("coupling_type") == "waveflow_bipartize"
        )
        values |= {"first_row": "shift" if scaled else "passthrough", "bipartize": bipartize}
        values.pop("flow_embedding", None)
        name = "waveflow"
    _check_family(settings, name, values)
    try:
        return name, from_dict(find_model(name)[1], values, "official config")
    except ConfigError as error:
        raise VocoderError(str(error)) from None


def _check_family(settings: Mapping[str, Any], name: str, values: Mapping[str, Any]) -> None:
    """Refuse a config that names another architecture than the state dict shows."""
    named = settings.get("coupling_type", settings.get("family"))
    if named is None:
        return
    if name == "nanoflow":
        fits = str(named).replace("-", "_").removeprefix("nanoflow").strip("_") == (
            _VARIANTS[values["variant"]]
        ) and str(named).startswith("nanoflow")
        found = f"nanoflow {values['variant']}"
    else:
        fits = str(named).startswith("waveflow")
        found = "waveflow"
    if not fits:
        raise VocoderError(
            f"official config: names {named!r}, but the state dict is of a {found} model"
        )


class _Translation:
    """Writes a published state dict in our names; what is left over is handed on unchanged."""

    def __init__(self, state: Mapping[str, Tensor], config: Any) -> None:
        self.rest = dict(state)
        self.config = config
        self.ours: dict[str, Tensor] = {}

    def tensors(self) -> dict[str, Tensor]:
        for stage in range(2):
            self._weight_norm(f"upsample.stages.{stage}", f"upsample_conv.{2 * stage}")
        variant = getattr(self.config, "variant", None)
        K = self.config.n_flows
        if variant is None:
            for k in range(K):
                self._net(f"nets.{k}", f"flows.{k}.coupling.net")
                self._head(f"heads.{k}", f"flows.{k}.coupling.proj_log_s_t")
        elif variant == "naive":
            self._net("nets.0", "flow.coupling.net")
            self._head("heads.0", "flow.coupling.proj_log_s_t")
        else:
            self._net("nets.0", "estimator.net")
            for k in range(K):
                self._head(f"heads.{k}", f"flows.{k}.proj_log_s_t")
        if variant == "full":
            self._indicator()
        return {**self.ours, **self.rest}

    def _net(self, ours: str, theirs: str) -> None:
        self._weight_norm(f"{ours}.front", f"{theirs}.front_conv.0.conv")
        self._split_fused_conditioning(theirs)
        for i in range(self.config.n_layers):
            block = f"{theirs}.res_blocks.{i}"
            self._weight_norm(f"{ours}.layers.{i}.conv", f"{block}.filter_gate_conv.conv")
            self._weight_norm(f"{ours}.layers.{i}.cond", f"{block}.filter_gate_conv_c")
            self._weight_norm(f"{ours}.layers.{i}.res_skip", f"{block}.res_skip_conv")

    def _split_fused_conditioning(self, theirs: str) -> None:
        """Undo the inference form, in which all layers' projections are one convolution."""
        for part in ("weight", "bias"):
            fused = self.rest.pop(f"{theirs}.fused_filter_gate_conv_c.{part}", None)
            if fused is not None:
                for i, piece in enumerate(fused.chunk(self.config.n_layers)):
                    self.rest[f"{theirs}.res_blocks.{i}.filter_gate_conv_c.{part}"] = piece

    def _head(self, ours: str, theirs: str) -> None:
        self._move(f"{ours}.conv.weight", f"{theirs}.conv.weight")
        self._move(f"{ours}.conv.bias", f"{theirs}.conv.bias")
        self._move(f"{ours}.scale", f"{theirs}.scale")

    def _indicator(self) -> None:
        for i in range(self.config.n_layers):
            block = f"estimator.net.res_blocks.{i}.filter_gate_conv_h"
            self._weight_norm(f"indicator.projections.{i}", block, flatten=True)
        gates = [self.rest.pop(f"flows.{k}.multgate", None) for k in range(self.config.n_flows)]
        if all(gate is not None for gate in gates):
            self.ours["indicator.gate"] = torch.stack(gates)  # type: ignore[arg-type]
        g = self.rest.pop("flow_embedding.weight_g", None)
        v = self.rest.pop("flow_embedding.weight_v", None)
        if g is not None and v is not None:
            self.rest["flow_embedding.weight"] = g * v / v.norm(dim=1, keepdim=True)
        self._move("indicator.embedding", "flow_embedding.weight")

    def _weight_norm(self, ours: str, theirs: str, flatten: bool = False) -> None:
        """Move a weight-normed layer: magnitude g and direction v, or a folded weight as both."""
        self._move(f"{ours}.bias", f"{theirs}.bias")
        weight = self.rest.pop(f"{theirs}.weight", None)
        if weight is not None:
            norm = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
            self.rest[f"{theirs}.weight_g"], self.rest[f"{theirs}.weight_v"] = norm, weight
        for i, part in enumerate(("weight_g", "weight_v")):
            stored = f"{theirs}.parametrizations.weight.original{i}"
            source = stored if stored in self.rest else f"{theirs}.{part}"
            if flatten and source in self.rest:  # a 1 × 1 convolution over a single position
                self.rest[source] = self.rest[source].flatten(1)
            self._move(f"{ours}.parametrizations.weight.original{i}", source)

    def _move(self, ours: str, theirs: str) -> None:
        if theirs in self.rest:
            self.ours[ours] = self.rest.pop(theirs)
