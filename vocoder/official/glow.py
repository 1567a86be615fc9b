"""Image checkpoints of L0SG/NanoFlow in our names: Glow, large Glow and the three NanoFlows.

The state dict tells the family; where the published constructor arguments are given too, the sizes
are taken from them, so that a tensor that is missing is missed.
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
from vocoder.flows.linear import Factors
from vocoder.flows.multiscale import level_shapes
from vocoder.models.families.image_flow import ImageFlowConfig
from vocoder.official.translation import Translation
from vocoder.registry import find_model

# Our field: its name in the published constructors and in `hparams.json`.
_FIELDS = {"n_levels": "L", "n_steps": "K", "channels": "hidden_channels"}
# What the state dict shows: what the published code calls it.
_FAMILIES = {
    ("glow", "three"): "glow",
    ("glow", "six"): "glow_large",
    ("nanoglow", "naive"): "nanoflow_naive",
    ("nanoglow", "decomposed"): "nanoflow_decomp",
    ("nanoglow", "full"): "nanoflow",
}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether this is a state dict of the NanoFlow repository's image models."""
    return any(re.match(r"flow\.layers\.\d+\.(actnorm|invconv)\.", name) for name in state)


def translate(
    state: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> tuple[str, Any, dict[str, Tensor]]:
    """Return the model's name, its configuration, and the tensors in our names.

    Tensors that have no place in the model keep their names.

    Raises:
        VocoderError: the settings do not fit the state dict, or ask for what was never saved.
    """
    name, config = _read_config(state, settings)
    if settings.get("learn_top") is False:
        n = 2 * level_shapes(config.image_shape, config.n_levels)[-1].channels
        shapes: dict[str, tuple[int, ...]] = {
            "conv.weight": (n, n, 3, 3),
            "conv.bias": (n,),
            "logs": (n,),
        }
        top = {f"learn_top_fn.{part}": torch.zeros(shape) for part, shape in shapes.items()}
        state = {**state, **top}
    return name, config, _Translation(state, name, config).tensors()


def data(config: Mapping[str, Any], model_config: ImageFlowConfig) -> ImageDescription:
    """Return the images that the published code trains on by this configuration."""
    return ImageDescription(model_config.image_shape, dataset=str(config.get("dataset", "")))


def _read_config(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[str, Any]:
    if settings.get("y_condition") or any(key.startswith("project_ycond") for key in state):
        raise VocoderError("official checkpoint: class-conditional models are not supported")
    if settings.get("flow_permutation", "invconv") != "invconv":
        raise VocoderError(
            f"official checkpoint: flow_permutation {settings['flow_permutation']!r} was never "
            "saved in the state dict; only 'invconv' can be imported"
        )
    values: dict[str, Any] = {ours: settings.get(name) for ours, name in _FIELDS.items()}
    for ours, theirs in _FIELDS.items():
        if values[ours] is None:
            raise VocoderError(f"official config: {theirs} is missing")
    values["image_height"], values["image_width"], values["image_channels"] = _image_shape(
        state, settings, values["n_levels"]
    )
    name, kind = _family(state)
    family = str(settings.get("family", settings.get("model_type", _FAMILIES[name, kind])))
    if family.removeprefix("image-").replace("-", "_") != _FAMILIES[name, kind]:
        raise VocoderError(
            f"official config: names {family!r}, but the state dict is of a "
            f"{_FAMILIES[name, kind]} model"
        )
    values["network" if name == "glow" else "variant"] = kind
    if kind == "full":
        values["flow_embedding"] = settings.get("flow_embed_dim")
    values |= {"coupling": settings.get("flow_coupling", "affine"), "parity": True}
    try:
        return name, from_dict(find_model(name)[1], values, "official config")
    except ConfigError as error:
        raise VocoderError(str(error)) from None


def _image_shape(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], n_levels: Any
) -> tuple[int, int, int]:
    """Return H, W, C as the settings say, or else as the shape of the top says."""
    shape = settings.get("image_shape")
    if shape is None and "prior_h" in state and isinstance(n_levels, int):
        _, double, height, width = state["prior_h"].shape
        return height << n_levels, width << n_levels, double >> (n_levels + 2)
    if not isinstance(shape, list | tuple) or len(shape) != 3:
        raise VocoderError(f"official config: image_shape must be [H, W, C], got {shape!r}")
    height, width, channels = shape
    return height, width, channels


def _family(state: Mapping[str, Tensor]) -> tuple[str, str]:
    """Return our model and its network or variant, by the tensors that only they have."""

    def has(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in state)

    if has(r"flow\.layers\.\d+\.block\."):
        return "glow", "three"
    if not has(r"flow\.estimator\.\d+\.conv3\."):
        raise VocoderError(
            "official checkpoint: neither Glow nor a NanoFlow with six convolutions; the "
            "`nanoflowalt` models are not supported"
        )
    if has(r"flow\.estimator\.\d+\.conv_proj\."):
        return "nanoglow", "naive"
    if has(r"flow\.layers\.\d+\.multgate"):
        return "nanoglow", "full"
    # Large Glow lists its networks by layer, and the first layer is a squeeze without one.
    return ("nanoglow", "decomposed") if has(r"flow\.estimator\.0\.") else ("glow", "six")


class _Translation(Translation):
    """Knows where each tensor of the published code belongs."""

    def __init__(self, state: Mapping[str, Tensor], name: str, config: Any) -> None:
        # Caches of the published code, all of them constant.
        strays = re.compile(r"prior_h$|.*\.(l_mask|eye)$")
        super().__init__({key: t for key, t in state.items() if not strays.match(key)})
        self.config = config
        self.kind = config.network if name == "glow" else config.variant

    def tensors(self) -> dict[str, Tensor]:
        L, K = self.config.n_levels, self.config.n_steps
        for i in range(L):
            first = i * (K + 2) + 1  # after the squeeze; the split follows the last step
            for k in range(K):
                self._step(i, k, f"flow.layers.{first + k}", first + k)
            if self.kind in ("naive", "decomposed", "full"):
                self._six_convs(f"nets.{i}.0", f"flow.estimator.{i}")
            if self.kind == "naive":
                self._zero_conv(f"heads.{i}.0", f"flow.estimator.{i}.conv_proj")
            if i < L - 1:
                self._zero_conv(f"flow.priors.{i}.head", f"flow.layers.{first + K}.conv")
        self._zero_conv(f"flow.priors.{L - 1}.head", "learn_top_fn")
        return self.result

    def _step(self, i: int, k: int, theirs: str, index: int) -> None:
        ours = f"flow.steps.{i}.{k}"
        self._norm(f"{ours}.norm", f"{theirs}.actnorm")
        self._conv1x1(f"{ours}.mix", f"{theirs}.invconv")
        if self.kind == "three":
            for n, part in enumerate(("block.0", "block.2")):
                self._normed_conv(f"nets.{i}.{k}.convs.{n}", f"{theirs}.{part}")
            self._zero_conv(f"heads.{i}.{k}", f"{theirs}.block.4")
        elif self.kind != "naive":
            self._zero_conv(f"heads.{i}.{k}", f"{theirs}.conv_proj")
        if self.kind == "six":
            self._six_convs(f"nets.{i}.{k}", f"flow.estimator.{index}")
        if self.kind == "full":
            indicator = f"indicators.{i}.{k}"
            self._norm(f"{indicator}.norm", f"{theirs}.actnorm_embed")
            self.move(f"{indicator}.embedding", f"flow.embedding.{index}", lambda e: e[0])
            self.move(f"{indicator}.log_gate", f"{theirs}.multgate", lambda g: g.flatten(1))

    def _six_convs(self, ours: str, theirs: str) -> None:
        for n in range(6):
            self._normed_conv(f"{ours}.convs.{n}", f"{theirs}.conv{n + 1}")

    def _normed_conv(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.conv.weight", f"{theirs}.conv.weight")
        self._norm(ours, f"{theirs}.actnorm")

    def _norm(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.bias", f"{theirs}.bias", Tensor.flatten)
        self.move(f"{ours}.log_scale", f"{theirs}.logs", Tensor.flatten)
        self.ours[f"{ours}.initialised"] = torch.tensor(True)

    def _zero_conv(self, ours: str, theirs: str) -> None:
        self.move(f"{ours}.weight", f"{theirs}.conv.weight")
        self.move(f"{ours}.bias", f"{theirs}.conv.bias")
        self.move(f"{ours}.log_scale", f"{theirs}.logs", Tensor.flatten)

    def _conv1x1(self, ours: str, theirs: str) -> None:
        weight = self.rest.pop(f"{theirs}.weight", None)
        if weight is not None:  # trained without the factorisation
            factors = Factors.of(weight)
            for part in ("permutation", "lower", "upper", "log_s", "sign"):
                self.ours[f"{ours}.{part}"] = getattr(factors, part)
        self.move(f"{ours}.permutation", f"{theirs}.p", lambda p: p.argmax(dim=-1))
        self.move(f"{ours}.lower", f"{theirs}.lower", lambda m: m.tril(-1))
        self.move(f"{ours}.upper", f"{theirs}.upper", lambda m: m.triu(1))
        self.move(f"{ours}.log_s", f"{theirs}.log_s")
        self.move(f"{ours}.sign", f"{theirs}.sign_s")
