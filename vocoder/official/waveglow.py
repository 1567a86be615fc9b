"""Checkpoints of NVIDIA/waveglow and of WaveGlow in NVIDIA/DeepLearningExamples, in our names.

All sizes are those of the tensors. Three layouts of the estimators are known: one convolution for
the conditioning of all layers (since 2019-08), one for each layer, and before that residual and
skip apart as well (until 2018-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor

from vocoder.config import ConfigError, from_dict
from vocoder.errors import VocoderError
from vocoder.files.torch_files import Inert, module_tensors
from vocoder.flows.linear import Factors
from vocoder.mel.presets import MelPreset
from vocoder.models.waveglow import WaveGlowConfig
from vocoder.official.presets import preset_of
from vocoder.official.translation import Translation, check_setting, swap_halves

# What the published code saves whole, and what that consists of; see `read_torch_file`.
INERT = (
    r"glow(_old)?\.(WaveGlow|WN|Invertible1x1Conv)"
    r"|torch\.nn\.modules\.(container\.ModuleList|conv\.Conv1d|conv\.ConvTranspose1d)"
    r"|torch\.nn\.utils\.weight_norm\.WeightNorm"
    r"|torch\.nn\.backends\.thnn\._get_thnn_function_backend"
)
_OLD = "glow_old"  # the module of the first released model, and how a JSON tells of it


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether this is the state dict of a WaveGlow."""
    return any(re.fullmatch(r"convinv\.\d+\.conv\.weight", name) for name in state)


def unpack(model: Inert) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state dict of a WaveGlow that was saved whole, and what its class tells.

    Raises:
        VocoderError: it is another object.
    """
    module, _, name = model.origin.rpartition(".")
    if name != "WaveGlow":
        raise VocoderError(f"a pickled {model.origin}, not a glow.WaveGlow")
    return module_tensors(model), {"variant": _OLD} if module == _OLD else {}


def translate(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[str, WaveGlowConfig, dict[str, Tensor]]:
    """Return the model's name, its configuration, and the tensors in our names.

    Tensors that have no place in the model keep their names.

    Args:
        state: the published state dict.
        config: the published JSON, its section `waveglow_config`, or nothing. The entry `variant`
            with the value "glow_old" stands for the first released model, which computes otherwise
            and whose state dict looks the same.

    Raises:
        VocoderError: the configuration does not fit the state dict, or tensors lack.
    """
    settings = config.get("waveglow_config", config)
    if not isinstance(settings, Mapping):
        raise VocoderError("official config: waveglow_config must be a mapping")
    ours = _read_config(state, settings, config)
    return "waveglow", ours, _Translation(state, ours).tensors()


def data(config: Mapping[str, Any], model_config: WaveGlowConfig) -> MelPreset:
    """Return the mels that the published code trains on by this configuration."""
    return preset_of(config, "tacotron2-22k", model_config)


def _read_config(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], whole: Mapping[str, Any]
) -> WaveGlowConfig:
    weights = [state.get(f"convinv.{j}.conv.weight") for j in range(len(state))]
    channels = [len(weight) for weight in weights if weight is not None]
    every, size = _early_outputs(channels)
    upsampler = _shape(state, "upsample.weight")
    n_mels, window = upsampler[0], upsampler[-1]
    residual, _, kernel_size = _layer(state, "WN.0.in_layers.0")
    n_layers = len({key for key in state if re.fullmatch(r"WN\.0\.in_layers\.\d+\.bias", key)})
    values = {
        "n_mel_channels": n_mels,
        "n_flows": len(channels),
        "n_group": channels[0],
        "n_early_every": every,
        "n_early_size": size,
    }
    for name, value in values.items():
        # Without an early output the tensors do not tell these two, and they do not matter.
        if name not in ("n_early_every", "n_early_size") or every < len(channels):
            check_setting(settings, name, value)
    net = settings.get("WN_config", {})
    if not isinstance(net, Mapping):
        raise VocoderError("official config: WN_config must be a mapping")
    sizes = {"n_layers": n_layers, "n_channels": residual // 2, "kernel_size": kernel_size}
    for name, value in sizes.items():
        check_setting(net, name, value)
    variant = settings.get("variant")
    if variant not in (None, _OLD):
        raise VocoderError(f"official config: variant {variant!r} is not {_OLD!r}; leave it out")
    data_config = whole.get("data_config", {})
    hop_length = data_config.get("hop_length", 256) if isinstance(data_config, Mapping) else 256
    try:
        return from_dict(
            WaveGlowConfig,
            {
                "n_mels": n_mels,
                "hop_length": hop_length,
                "window": window,
                "n_flows": len(channels),
                "n_group": channels[0],
                "early_every": every,
                "early_size": size,
                "n_layers": n_layers,
                "channels": residual // 2,
                "kernel_size": kernel_size,
                "alternate": variant == _OLD,
            },
            "official config",
        )
    except ConfigError as error:
        raise VocoderError(str(error)) from None


def _early_outputs(channels: list[int]) -> tuple[int, int]:
    """Return every how many flows how many channels leave, given those of each flow."""
    sizes = [before - after for before, after in pairwise(channels)]
    first = next((j for j, size in enumerate(sizes) if size), None)
    if first is None:
        return len(channels), 2
    every, size = first + 1, sizes[first]
    if any(s != (0 if (j + 1) % every else size) for j, s in enumerate(sizes)):
        raise VocoderError(
            f"official checkpoint: the flows have {channels} channels, which no early output of "
            "equal size at equal distances gives; a convinv is missing or of another model"
        )
    return every, size


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state or state[name].ndim != 3:
        raise VocoderError(f"official checkpoint: {name} is missing or no convolution")
    return tuple(state[name].shape)


def _layer(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the shape of a convolution's weight, normed or folded."""
    parts = ("weight_v", "weight", "parametrizations.weight.original1")
    present = [f"{name}.{part}" for part in parts if f"{name}.{part}" in state]
    return _shape(state, present[0] if present else f"{name}.weight")


class _Translation(Translation):
    """Knows where each tensor of the published code belongs."""

    def __init__(self, state: Mapping[str, Tensor], config: WaveGlowConfig) -> None:
        super().__init__(state)
        self.config = config

    def tensors(self) -> dict[str, Tensor]:
        for part in ("weight", "bias"):
            self.move(f"upsample.{part}", f"upsample.{part}")
        for j in range(self.config.n_flows):
            self._conv1x1(f"steps.{j}.mix", f"convinv.{j}.conv.weight")
            self._net(f"nets.{j}", f"WN.{j}")
        return self.result

    def _conv1x1(self, ours: str, theirs: str) -> None:
        stored = self.rest.pop(theirs)
        if stored.shape != (len(stored), len(stored), 1):
            raise VocoderError(f"official checkpoint: {theirs} is no square matrix")
        weight = stored[:, :, 0]
        factors = Factors.of(weight.double())
        if not factors.log_s.isfinite().all():
            raise VocoderError(f"official checkpoint: {theirs} has no inverse; the file is damaged")
        self.ours[f"{ours}.permutation"] = factors.permutation
        self.ours[f"{ours}.sign"] = factors.sign.to(weight.dtype)
        self.ours[f"{ours}.lu"] = factors.packed().to(weight.dtype)

    def _net(self, ours: str, theirs: str) -> None:
        L = self.config.n_layers
        self.weight_norm(f"{ours}.start", f"{theirs}.start")
        fused = f"{theirs}.cond_layer"
        layers = [f"{theirs}.cond_layers.{i}" for i in range(L)]
        self.weight_norm(
            f"{ours}.body.cond", *([fused] if f"{fused}.bias" in self.rest else layers)
        )
        for i in range(L):
            self.weight_norm(f"{ours}.body.layers.{i}.conv", f"{theirs}.in_layers.{i}")
            joint = f"{theirs}.res_skip_layers.{i}"
            apart = [f"{theirs}.res_layers.{i}"] if i < L - 1 else []
            apart.append(f"{theirs}.skip_layers.{i}")
            self.weight_norm(
                f"{ours}.body.layers.{i}.res_skip",
                *([joint] if f"{joint}.bias" in self.rest else apart),
            )
        for part in ("weight", "bias"):  # theirs gives t first
            self.move(f"{ours}.end.{part}", f"{theirs}.end.{part}", swap_halves)

    def _joint_or_apart(self, ours: str, joint: str, apart: list[str]) -> None:
        """Move a layer that older code had in several, by whichever there is."""
        self.weight_norm(ours, *([joint] if f"{joint}.bias" in self.rest else apart))
