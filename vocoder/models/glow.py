"""Glow: generative flow with invertible 1 × 1 convolutions (NeurIPS 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from vocoder.flows.coupling import CouplingEstimator
from vocoder.flows.elementwise import Elementwise, Shift, SigmoidAffine
from vocoder.flows.multiscale import FlowStep, LevelShape, Prior, level_shapes
from vocoder.models.families.image_flow import SCALE_FLOOR, ImageFlow, ImageFlowConfig
from vocoder.nets.convnet2d import ConvEstimator, ConvNet2d, ZeroConv2d
from vocoder.nets.priors import PublishedTopPrior, SplitPrior, TopPrior
from vocoder.registry import register_model


@dataclass(frozen=True)
class ConvFlowConfig(ImageFlowConfig):
    """What Glow and NanoGlow have in common."""

    coupling: Literal["affine", "additive"] = "affine"


@dataclass(frozen=True)
class GlowConfig(ConvFlowConfig):
    """Glow: every step has a network of its own."""

    # "three": 3 × 3 and 1 × 1 convolutions and a 3 × 3 head, as published;
    # "six": six 3 × 3 convolutions and a 1 × 1 head, NanoFlow's large baseline.
    network: Literal["three", "six"] = "three"


class ConvFlow(ImageFlow):
    """Steps of Glow whose estimators are plain convolutional networks.

    Args:
        config: Sizes of the model.
        kernel_sizes: Kernel sizes of the networks.
        head_size: Kernel size of the heads.
        n_nets: Number of networks in each level: K, or 1 that all its steps share.
        n_heads: Number of heads in each level: K, or 1.
        n_extra: Channels that each level's networks take beside the half that conditions.
        priors: Priors of what leaves each level; None is Glow's own.
    """

    def __init__(
        self,
        config: ConvFlowConfig,
        *,
        kernel_sizes: tuple[int, ...],
        head_size: int,
        n_nets: int,
        n_heads: int,
        n_extra: Sequence[int] | None = None,
        priors: Sequence[Prior] | None = None,
    ) -> None:
        floor = 0.0 if config.parity else SCALE_FLOOR
        transform: Elementwise = SigmoidAffine(floor) if config.coupling == "affine" else Shift()
        shapes = level_shapes(config.image_shape, config.n_levels)
        extra = n_extra or [0] * len(shapes)
        super().__init__(
            config,
            [
                [FlowStep(shape.channels, transform, config.parity) for _ in range(config.n_steps)]
                for shape in shapes
            ],
            priors or gaussian_priors(shapes, config.parity),
        )
        self.n_params = transform.n_params
        self.nets = nn.ModuleList(
            nn.ModuleList(
                ConvNet2d(shape.channels // 2 + n_more, config.channels, kernel_sizes)
                for _ in range(n_nets)
            )
            for shape, n_more in zip(shapes, extra, strict=True)
        )
        self.heads = nn.ModuleList(
            nn.ModuleList(
                ZeroConv2d(config.channels, shape.channels // 2 * self.n_params, head_size)
                for _ in range(n_heads)
            )
            for shape in shapes
        )

    @property
    def gains_from_bf16_on_cpu(self) -> bool:
        """Whether the convolutions do, which are nearly all of a step."""
        return self.config.convolutions_gain_from_bf16

    def estimators(self) -> list[list[CouplingEstimator]]:
        """Return the estimator of every step of every level."""
        return [
            [self.estimator(level, k) for k in range(self.config.n_steps)]
            for level in range(self.config.n_levels)
        ]

    def estimator(self, level: int, k: int) -> ConvEstimator:
        """Return the estimator of step k of a level."""
        nets: nn.ModuleList = self.nets[level]  # type: ignore[assignment]
        heads: nn.ModuleList = self.heads[level]  # type: ignore[assignment]
        net, head = nets[k % len(nets)], heads[k % len(heads)]
        return ConvEstimator(net, head, self.n_params)  # type: ignore[arg-type]


def gaussian_priors(shapes: Sequence[LevelShape], parity: bool) -> list[Prior]:
    """Return Glow's prior of each level."""
    top = PublishedTopPrior if parity else TopPrior
    splits: list[Prior] = [
        SplitPrior(shape.n_given, shape.n_factored, parity) for shape in shapes[:-1]
    ]
    return [*splits, top(shapes[-1].channels)]


@register_model("glow", GlowConfig)
class Glow(ConvFlow):
    """Steps of flow, each with a network of its own."""

    def __init__(self, config: GlowConfig) -> None:
        three = config.network == "three"
        super().__init__(
            config,
            kernel_sizes=(3, 1) if three else (3,) * 6,
            head_size=3 if three else 1,
            n_nets=config.n_steps,
            n_heads=config.n_steps,
        )
