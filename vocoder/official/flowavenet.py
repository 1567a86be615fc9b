"""Checkpoints of ksw0306/FloWaveNet in our names; the tensors tell all sizes but one.

That one is how the dilations grow: by powers of 3 before 2019-02, of 2 since. Models of before have
no split either, so only where there is none does it have to be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vocoder.config import ConfigError, from_dict
from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset
from vocoder.models.flowavenet import FloWaveNetConfig
from vocoder.official.presets import preset_of
from vocoder.official.translation import Translation, check_setting, swap_halves

_FLOW = re.compile(r"blocks\.(\d+)\.flows\.(\d+)\.actnorm\.loc")
_LAYER = re.compile(r"blocks\.0\.flows\.0\.coupling\.net\.res_blocks\.(\d+)\.res_conv\.bias")
_PRIOR = re.compile(r"blocks\.(\d+)\.prior\.front_conv\.0\.conv\.bias")


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether this is the state dict of a FloWaveNet."""
    return any(_FLOW.fullmatch(name) for name in state)


def translate(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[str, FloWaveNetConfig, dict[str, Tensor]]:
    """Return the model's name, its configuration, and the tensors in our names.

    Tensors that have no place in the model keep their names.

    Args:
        state: the published state dict.
        config: the published arguments, or nothing; `dilation_base` is 3 for models of before
            2019-02.

    Raises:
        VocoderError: the configuration does not fit the state dict, or tensors lack.
    """
    ours = _read_config(state, config)
    return "flowavenet", ours, _Translation(state, ours).tensors()


def data(config: Mapping[str, Any], model_config: FloWaveNetConfig) -> MelPreset:
    """Return the mels that the published code trains on by this configuration."""
    return preset_of(config, "flowavenet-22k", model_config)


def _read_config(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> FloWaveNetConfig:
    flows = [(int(m[1]), int(m[2])) for m in map(_FLOW.fullmatch, state) if m]
    n_blocks, n_flows = (1 + max(numbers) for numbers in zip(*flows, strict=True))
    if len(flows) != n_blocks * n_flows:
        raise VocoderError(
            f"official checkpoint: {len(flows)} flows in {n_blocks} blocks; some are missing"
        )
    n_layers = sum(_LAYER.fullmatch(name) is not None for name in state)
    splits = sorted(int(m[1]) for m in map(_PRIOR.fullmatch, state) if m)
    net = "blocks.0.flows.0.coupling.net"
    cond = _weight(state, f"{net}.res_blocks.0.filter_conv_c")
    channels, n_mels = cond.shape[:2]
    affine = len(_weight(state, f"{net}.final_conv.3.conv")) == 2
    strides = [_weight(state, f"upsample_conv.{2 * i}").shape[-1] // 2 for i in range(2)]
    found = {
        "cin_channel": n_mels,
        "n_block": n_blocks,
        "n_flow": n_flows,
        "n_layer": n_layers,
        "affine": affine,
        "filter_size": channels,
    }
    for name, value in found.items():
        check_setting(config, name, value)
    try:
        ours = from_dict(
            FloWaveNetConfig,
            {
                "n_mels": n_mels,
                "upsample_strides": strides,
                "n_blocks": n_blocks,
                "n_flows": n_flows,
                "n_layers": n_layers,
                "channels": channels,
                "blocks_per_split": splits[0] + 1 if splits else n_blocks,
                "coupling": "affine" if affine else "additive",
                "dilation_base": _dilation_base(config, n_layers, bool(splits)),
            },
            "official config",
        )
    except ConfigError as error:
        raise VocoderError(str(error)) from None
    if splits != list(ours.split_blocks):
        raise VocoderError(
            f"official checkpoint: splits after blocks {splits}, not at equal distances; a prior "
            "is missing"
        )
    return ours


def _dilation_base(config: Mapping[str, Any], n_layers: int, has_splits: bool) -> Any:
    if "dilation_base" in config:
        return config["dilation_base"]
    if not has_splits and n_layers > 1 and "block_per_split" not in config:
        raise VocoderError(
            "official checkpoint: a FloWaveNet without splits, whose dilations the tensors do not "
            'tell; give --config a JSON with "dilation_base": 3 for one of before 2019-02, else 2'
        )
    return 2


def _weight(state: Mapping[str, Tensor], layer: str) -> Tensor:
    """Return a layer's weight, or its direction; their shapes are the same."""
    for part in ("weight_v", "weight", "parametrizations.weight.original1"):
        if f"{layer}.{part}" in state:
            return state[f"{layer}.{part}"]
    raise VocoderError(f"official checkpoint: {layer} is missing")


class _Translation(Translation):
    """Knows where each tensor of the published code belongs."""

    def __init__(self, state: Mapping[str, Tensor], config: FloWaveNetConfig) -> None:
        super().__init__(state)
        self.config = config

    def tensors(self) -> dict[str, Tensor]:
        config = self.config
        for stage in range(len(config.upsample_strides)):
            self.weight_norm(f"upsample.stages.{stage}", f"upsample_conv.{2 * stage}")
        for b in config.blocks:
            for i in range(config.n_flows):
                self._norm(f"flows.{b}.{i}.norm", f"blocks.{b}.flows.{i}.actnorm")
                net = f"blocks.{b}.flows.{i}.coupling.net"
                self._net(f"nets.{b}.{i}", net, config.n_layers)
        for b in config.split_blocks:
            self._net(f"priors.{b}", f"blocks.{b}.prior", 2)
            # Theirs gives the mean first.
            for part in ("weight", "bias", "log_scale"):
                name = f"priors.{b}.end.{part}"
                if name in self.ours:
                    self.ours[name] = swap_halves(self.ours[name])
        return self.result

    def _norm(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.bias", f"{theirs}.loc", Tensor.flatten)
        scale = self.rest.pop(f"{theirs}.scale", None)
        if scale is not None:
            self.ours[f"{ours}.log_scale"] = scale.flatten().abs().log()
            self.ours[f"{ours}.sign"] = scale.flatten().sign()
        self.ours[f"{ours}.initialised"] = torch.tensor(True)

    def _net(self, ours: str, theirs: str, n_layers: int) -> None:
        self.weight_norm(f"{ours}.front", f"{theirs}.front_conv.0.conv")
        blocks = [f"{theirs}.res_blocks.{n}" for n in range(n_layers)]
        self.weight_norm(
            f"{ours}.body.cond",
            *(f"{block}.{part}_conv_c" for block in blocks for part in ("filter", "gate")),
        )
        for n, block in enumerate(blocks):
            layer = f"{ours}.body.layers.{n}"
            conv = (f"{block}.{part}_conv.conv" for part in ("filter", "gate"))
            self.weight_norm(f"{layer}.conv", *conv)
            self.weight_norm(f"{layer}.res_skip", f"{block}.res_conv", f"{block}.skip_conv")
        self.weight_norm(f"{ours}.middle", f"{theirs}.final_conv.1.conv")
        for part in ("weight", "bias"):
            self.move(f"{ours}.end.{part}", f"{theirs}.final_conv.3.conv.{part}")
        self.move(f"{ours}.end.log_scale", f"{theirs}.final_conv.3.scale", Tensor.flatten)
