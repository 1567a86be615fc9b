"""Small image models of every kind, for the laws that hold for all of them."""

from __future__ import annotations

import torch
from helpers import perturb

from vocoder.models.families.image_flow import ImageFlow, ImageFlowConfig
from vocoder.models.glow import GlowConfig
from vocoder.models.marscf import MarScfConfig
from vocoder.models.nanoglow import NanoGlowConfig
from vocoder.registry import MODELS, find_model

TINY = {"image_height": 4, "image_width": 8, "n_levels": 2, "n_steps": 2, "channels": 4}

# The name of a model, then what is special.
CONFIGS: dict[str, ImageFlowConfig] = {
    "glow": GlowConfig(**TINY),
    "glow-parity": GlowConfig(**TINY, parity=True),
    "glow-additive": GlowConfig(**TINY, coupling="additive", image_channels=1),
    "glow-six": GlowConfig(**TINY, network="six", image_channels=2),
    "glow-one-level": GlowConfig(**TINY | {"n_levels": 1, "image_height": 2}),
    "nanoglow-naive": NanoGlowConfig(**TINY, variant="naive"),
    "nanoglow-decomposed": NanoGlowConfig(**TINY, variant="decomposed", image_channels=1),
    "nanoglow": NanoGlowConfig(**TINY, flow_embedding=2),
    "nanoglow-parity": NanoGlowConfig(**TINY, parity=True),
    "nanoglow-autoregressive": NanoGlowConfig(
        **TINY, prior="autoregressive", prior_channels=4, prior_layers=2
    ),
    "marscf": MarScfConfig(**TINY, prior_channels=4, prior_layers=2),
    "marscf-parity": MarScfConfig(**TINY, prior_channels=4, prior_layers=1, parity=True),
    "marscf-mixlogcdf": MarScfConfig(
        **TINY,
        coupling="mixlogcdf",
        n_components=3,
        n_blocks=1,
        prior_channels=4,
        prior_layers=1,
        image_channels=1,
    ),
    "marscf-mixlogcdf-parity": MarScfConfig(
        **TINY | {"n_levels": 1, "image_height": 2},
        coupling="mixlogcdf",
        n_components=2,
        n_blocks=1,
        prior_channels=3,
        prior_layers=1,
        parity=True,
    ),
}
# A model that is not named above is tested at its defaults, so that a new one does not escape.
for _name in MODELS.names():
    _model, _config = find_model(_name)
    if issubclass(_model, ImageFlow):
        CONFIGS.setdefault(_name, _config(**TINY))


def build(name: str, config: ImageFlowConfig | None = None) -> ImageFlow:
    """Return the model `name` of CONFIGS, with fresh weights."""
    torch.manual_seed(0)
    model_class, _ = find_model(name.split("-")[0])
    return model_class(config or CONFIGS[name])


def perturbed(name: str, config: ImageFlowConfig | None = None) -> ImageFlow:
    """Return the model with every parameter moved, in float64 and eval mode."""
    return perturb(build(name, config), size=0.1).double().eval()


def images(model: ImageFlow, batch: int = 3, seed: int = 0) -> torch.Tensor:
    """Return uniform noise (B, C, H, W) in [-0.5, 0.5), in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, *model.image_shape, generator=generator, dtype=torch.float64) - 0.5
