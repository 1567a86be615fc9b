"""Checkpoints of visinf/mar-scf in our names.

The published code saves the state dict alone. It tells all sizes but that of the images, which are
32 × 32 unless `image_shape` says otherwise: the published priors fit no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vocoder.config import ConfigError, from_dict
from vocoder.data.images.description import ImageDescription
from vocoder.errors import VocoderError
from vocoder.models.families.image_flow import ImageFlowConfig
from vocoder.models.marscf import MarScfConfig
from vocoder.official.translation import Translation

_STEP = re.compile(r"flow\.layers\.(\d+)\.actnormlayer\.bias")
_PRIORS = "flow.c_prior.prior_list"


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether this is a state dict of the mAR-SCF repository."""
    return any(name.startswith("flow.c_prior.") for name in state)


def translate(
    state: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> tuple[str, Any, dict[str, Tensor]]:
    """Return the model's name, its configuration, and the tensors in our names.

    Args:
        state: the published state dict.
        settings: the published arguments L, K, C and coupling, and image_shape (H, W, C); what is
            not given is read off the tensors.

    Raises:
        VocoderError: the settings do not fit the state dict, or tensors that tell a size lack.
    """
    config = _read_config(state, settings)
    return "marscf", config, _Translation(state, config).tensors()


def data(config: Mapping[str, Any], model_config: ImageFlowConfig) -> ImageDescription:
    """Return the images that the published code trains on by this configuration."""
    return ImageDescription(model_config.image_shape, dataset=str(config.get("dataset", "")))


def _read_config(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> MarScfConfig:
    steps = sorted(int(match[1]) for match in map(_STEP.fullmatch, state) if match)
    n_levels = len({name.split(".")[3] for name in state if name.startswith(_PRIORS)})
    if not steps or not n_levels or len(steps) % n_levels:
        raise VocoderError(
            f"official checkpoint: {len(steps)} flow steps in {n_levels} levels; "
            "some are missing or left over"
        )
    first = f"flow.layers.{steps[0]}.coupling"
    mixlogcdf = f"{first}.nn.in_conv.conv.bias" in state
    lstm = f"{_PRIORS}.0.prior_lstm.lstm"
    n_image_channels = _shape(state, f"flow.layers.{steps[0]}.actnormlayer.bias")[1] // 4
    values: dict[str, Any] = {
        "image_channels": n_image_channels,
        "n_levels": n_levels,
        "n_steps": len(steps) // n_levels,
        "coupling": "mixlogcdf" if mixlogcdf else "affine",
        "prior_channels": _shape(state, f"{lstm}.weight_hh_l0")[1],
        "prior_layers": sum(name.startswith(f"{lstm}.bias_hh_l") for name in state),
        "parity": True,
    }
    if mixlogcdf:
        values["channels"] = _shape(state, f"{first}.nn.in_conv.conv.bias")[0]
        n_out = _shape(state, f"{first}.nn.out_conv.conv.bias")[0]
        values["n_components"] = (n_out // (2 * n_image_channels) - 2) // 3
        blocks = re.compile(re.escape(first) + r"\.nn\.mid_convs\.\d+\.norm_1\.bias")
        values["n_blocks"] = sum(blocks.fullmatch(name) is not None for name in state)
    else:
        values["channels"] = _shape(state, f"{first}.NN_net.conv1.weight")[0]
    published = {"L": "n_levels", "K": "n_steps", "C": "channels", "coupling": "coupling"}
    for theirs, ours in published.items():
        if theirs in settings and settings[theirs] != values[ours]:
            raise VocoderError(
                f"official config: {theirs} is {settings[theirs]!r}, but the state dict is of a "
                f"model with {theirs} {values[ours]!r}"
            )
    shape = settings.get("image_shape", [32, 32, n_image_channels])
    if not isinstance(shape, list | tuple) or len(shape) != 3 or shape[2] != n_image_channels:
        raise VocoderError(
            f"official config: image_shape must be [H, W, {n_image_channels}], got {shape!r}"
        )
    values["image_height"], values["image_width"] = shape[:2]
    try:
        return from_dict(MarScfConfig, values, "official config")
    except ConfigError as error:
        raise VocoderError(str(error)) from None


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size:
    if name not in state:
        raise VocoderError(f"official checkpoint: {name} is missing")
    return state[name].shape


class _Translation(Translation):
    """Knows where each tensor of the published code belongs."""

    def __init__(self, state: Mapping[str, Tensor], config: MarScfConfig) -> None:
        super().__init__(state)
        self.config = config

    def tensors(self) -> dict[str, Tensor]:
        L, K = self.config.n_levels, self.config.n_steps
        for i in range(L):
            first = i * (K + 2) + 1  # after the squeeze; the split follows the last step
            for k in range(K):
                theirs = f"flow.layers.{first + k}"
                self._norm(f"flow.steps.{i}.{k}.norm", f"{theirs}.actnormlayer")
                self._conv1x1(f"flow.steps.{i}.{k}.mix", f"{theirs}.invert_1x1_layer")
                if self.config.coupling == "affine":
                    self._affine_net(f"nets.{i}.{k}", f"{theirs}.coupling.NN_net")
                else:
                    self._gated_net(f"nets.{i}.{k}", f"{theirs}.coupling.nn")
            self._prior(f"flow.priors.{i}", f"{_PRIORS}.{i}", top=i == L - 1)
        return self.result

    def _norm(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.bias", f"{theirs}.bias", Tensor.flatten)
        self.move(f"{ours}.log_scale", f"{theirs}.logs", Tensor.flatten)
        self.move(f"{ours}.initialised", f"{theirs}.is_initialized", lambda t: t.any())

    def _conv1x1(self, ours: str, theirs: str) -> None:
        def permutation(matrix: Tensor) -> Tensor:
            rows = matrix.argmax(dim=-1)
            # The published mixture coupling changes the first half and then swaps the two; ours
            # changes the second, so that the swap belongs in front of it.
            return rows.roll(len(rows) // 2) if self.config.coupling == "mixlogcdf" else rows

        self.move(f"{ours}.permutation", f"{theirs}.p", permutation)
        self.move(f"{ours}.lower", f"{theirs}.l", lambda m: m.tril(-1))
        self.move(f"{ours}.upper", f"{theirs}.u", lambda m: m.triu(1))
        self.move(f"{ours}.log_s", f"{theirs}.log_s")
        self.move(f"{ours}.sign", f"{theirs}.sign_s")
        for constant in ("l_mask", "eye"):
            self.rest.pop(f"{theirs}.{constant}", None)

    def _affine_net(self, ours: str, theirs: str) -> None:
        for n in range(2):
            self.move(f"{ours}.net.convs.{n}.conv.weight", f"{theirs}.conv{n + 1}.weight")
            self._norm(f"{ours}.net.convs.{n}", f"{theirs}.conv{n + 1}.actnorm")
        self._conv(f"{ours}.head", f"{theirs}.conv3")
        self.move(f"{ours}.head.log_scale", f"{theirs}.conv3.logs", Tensor.flatten)

    def _gated_net(self, ours: str, theirs: str) -> None:
        self._weight_norm(f"{ours}.front", f"{theirs}.in_conv.conv")
        self._weight_norm(f"{ours}.head", f"{theirs}.out_conv.conv")
        self.move(f"{ours}.rescale.factor", f"{theirs}.rescale.weight_g", Tensor.flatten)
        self.move(f"{ours}.rescale.direction", f"{theirs}.rescale.weight_v", Tensor.flatten)
        for n in range(self.config.n_blocks):
            block, published = f"{ours}.blocks.{n}", f"{theirs}.mid_convs.{n}"
            self._weight_norm(f"{block}.conv", f"{published}.conv.conv.conv")
            self._weight_norm(f"{block}.conv_gate", f"{published}.conv.gate.conv")
            self._conv(f"{block}.conv_norm", f"{published}.norm_1")
            self._weight_norm(f"{block}.attention.project", f"{published}.attn.in_proj")
            self._weight_norm(f"{block}.attention_gate", f"{published}.attn.gate")
            self._conv(f"{block}.attention_norm", f"{published}.norm_2")

    def _prior(self, ours: str, theirs: str, top: bool) -> None:
        embed = f"{ours}.embed.stored" if top else f"{ours}.embed"
        for n in (0, 2):
            self._conv(f"{embed}.{n}", f"{theirs}.z1_cond_network.{n}")
        self._conv(f"{ours}.front", f"{theirs}.prior_lstm.conv_embed")
        self._conv(f"{ours}.head", f"{theirs}.prior_lstm.conv_out1")
        for n in range(self.config.prior_layers):
            for part, published in (("from_input", "ih"), ("from_state", "hh")):
                for kind in ("weight", "bias"):
                    self.move(
                        f"{ours}.lstm.layers.{n}.{part}.{kind}",
                        f"{theirs}.prior_lstm.lstm.{kind}_{published}_l{n}",
                    )

    def _conv(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.weight", f"{theirs}.weight")
        self.move(f"{ours}.bias", f"{theirs}.bias")

    def _weight_norm(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.bias", f"{theirs}.bias")
        for i, part in enumerate(("weight_g", "weight_v")):
            self.move(f"{ours}.parametrizations.weight.original{i}", f"{theirs}.{part}")
