"""NanoFlow's parameter sharing on Glow: scalable normalizing flows (NeurIPS 2020), §4.2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from vocoder.flows.multiscale import Prior, level_shapes
from vocoder.models.families.sizes import check_sizes
from vocoder.models.glow import ConvFlow, ConvFlowConfig
from vocoder.nets.channel_prior import channel_priors
from vocoder.nets.convnet2d import ConvEstimator, StepIndicator
from vocoder.registry import register_model

N_LAYERS = 6  # 3 × 3 convolutions of the shared network


@dataclass(frozen=True)
class NanoGlowConfig(ConvFlowConfig):
    """NanoGlow: all steps of a level share one network."""

    # "naive": everything shared; "decomposed": a head per step; "full": a head, embedding maps and
    # gates per step.
    variant: Literal["naive", "decomposed", "full"] = "full"
    # Embedding maps of a step in the first level, twice as many in each further one, for "full".
    # They have the size of the level, and so tie the model to its image size.
    flow_embedding: int = 1
    # "gaussian": Glow's; "autoregressive": mAR-SCF's, in published kernel sizes. No paper has both
    # ideas.
    prior: Literal["gaussian", "autoregressive"] = "gaussian"
    prior_channels: int = 32  # hidden channels of the autoregressive prior's ConvLSTM
    prior_layers: int = 3  # its layers

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "flow_embedding", "prior_channels", "prior_layers")


@register_model("nanoglow", NanoGlowConfig)
class NanoGlow(ConvFlow):
    """Steps of Glow that share one network in each level."""

    def __init__(self, config: NanoGlowConfig) -> None:
        full = config.variant == "full"
        shapes = level_shapes(config.image_shape, config.n_levels)
        priors: list[Prior] | None = None
        if config.prior == "autoregressive":
            priors = channel_priors(
                shapes,
                channels=config.prior_channels,
                n_layers=config.prior_layers,
                parity=config.parity,
            )
        n_maps = [config.flow_embedding * 2**level for level in range(config.n_levels)]
        super().__init__(
            config,
            kernel_sizes=(3,) * N_LAYERS,
            head_size=1,
            n_nets=1,
            n_heads=1 if config.variant == "naive" else config.n_steps,
            n_extra=n_maps if full else None,
            priors=priors,
        )
        self.indicators = nn.ModuleList(
            nn.ModuleList(
                StepIndicator(n, shape.height, shape.width, N_LAYERS, config.channels)
                for _ in range(config.n_steps)
            )
            for n, shape in zip(n_maps, shapes if full else [], strict=False)
        )

    def estimator(self, level: int, k: int) -> ConvEstimator:
        """Return the estimator of step k of a level."""
        estimator = super().estimator(level, k)
        if not self.indicators:
            return estimator
        indicators: nn.ModuleList = self.indicators[level]  # type: ignore[assignment]
        return replace(estimator, indicator=indicators[k])  # type: ignore[arg-type]
