"""Checkpoints of L0SG/NanoFlow and L0SG/WaveFlow of sound, in our names.

The published configuration names do not tell the architectures of the two repositories apart; the
state dict does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vocoder.config import ConfigError, from_dict
from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.models.families.row_flow import RowFlowConfig
from vocoder.official.translation import Translation
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


# Our variant: what follows `nanoflow` in the published name.
_VARIANTS = {"naive": "naive", "decomposed": "decomp", "full": ""}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return true: what no other family knows is taken for a WaveFlow or NanoFlow."""
    return True


def translate(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[str, Any, dict[str, Tensor]]:
    """Return the model's name, its configuration, and the tensors in our names.

    Tensors that have no place in the model keep their names.

    Args:
        state: the published state dict.
        config: the published JSON, or its section `waveflow_config`.

    Raises:
        VocoderError: the settings do not fit the state dict.
    """
    settings = config.get("waveflow_config", config)
    if not isinstance(settings, Mapping):
        raise VocoderError("official config: waveflow_config must be a mapping")
    name, ours = _read_config(settings, state)
    return name, ours, _Translation(state, ours).tensors()


def data(config: Mapping[str, Any], model_config: RowFlowConfig) -> MelPreset:
    """Return the mels that the published code trains on by this configuration."""
    section = config.get("data_config", {})
    return get_preset("nanoflow-db-22k" if is_true(section.get("use_dbmel")) else "tacotron2-22k")


def is_true(value: object) -> bool:
    """Return whether a setting is on; the published configurations write booleans as strings."""
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
        bipartize = is_true(settings.get("bipartize")) or (
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


class _Translation(Translation):
    """Knows where each tensor of the published code belongs."""

    def __init__(self, state: Mapping[str, Tensor], config: Any) -> None:
        super().__init__(state)
        self.config = config

    def tensors(self) -> dict[str, Tensor]:
        for stage in range(2):
            self.weight_norm(f"upsample.stages.{stage}", f"upsample_conv.{2 * stage}")
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
        return self.result

    def _net(self, ours: str, theirs: str) -> None:
        self.weight_norm(f"{ours}.front", f"{theirs}.front_conv.0.conv")
        self._split_fused_conditioning(theirs)
        for i in range(self.config.n_layers):
            block = f"{theirs}.res_blocks.{i}"
            self.weight_norm(f"{ours}.layers.{i}.conv", f"{block}.filter_gate_conv.conv")
            self.weight_norm(f"{ours}.layers.{i}.cond", f"{block}.filter_gate_conv_c")
            self.weight_norm(f"{ours}.layers.{i}.res_skip", f"{block}.res_skip_conv")

    def _split_fused_conditioning(self, theirs: str) -> None:
        """Undo the inference form, in which all layers' projections are one convolution."""
        for part in ("weight", "bias"):
            fused = self.rest.pop(f"{theirs}.fused_filter_gate_conv_c.{part}", None)
            if fused is not None:
                for i, piece in enumerate(fused.chunk(self.config.n_layers)):
                    self.rest[f"{theirs}.res_blocks.{i}.filter_gate_conv_c.{part}"] = piece

    def _head(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.conv.weight", f"{theirs}.conv.weight")
        self.move(f"{ours}.conv.bias", f"{theirs}.conv.bias")
        self.move(f"{ours}.scale", f"{theirs}.scale")

    def _indicator(self) -> None:
        for i in range(self.config.n_layers):
            block = f"estimator.net.res_blocks.{i}.filter_gate_conv_h"
            # A 1 × 1 convolution over a single position.
            self.weight_norm(f"indicator.projections.{i}", block, convert=lambda w: w.flatten(1))
        gates = [self.rest.pop(f"flows.{k}.multgate", None) for k in range(self.config.n_flows)]
        if all(gate is not None for gate in gates):
            self.ours["indicator.gate"] = torch.stack(gates)  # type: ignore[arg-type]
        g = self.rest.pop("flow_embedding.weight_g", None)
        v = self.rest.pop("flow_embedding.weight_v", None)
        if g is not None and v is not None:
            self.rest["flow_embedding.weight"] = g * v / v.norm(dim=1, keepdim=True)
        self.move("indicator.embedding", "flow_embedding.weight")
