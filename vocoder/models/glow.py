"""Glow: generative flow with invertible 1 × 1 convolutions (NeurIPS 2018)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vocoder.errors import VocoderError
from vocoder.flows.base import Bijection
from vocoder.flows.coupling import CouplingEstimator
from vocoder.flows.elementwise import Elementwise, Shift, SigmoidAffine
from vocoder.flows.linear import initialise
from vocoder.flows.multiscale import FlowStep, LevelShape, MultiScale, level_shapes
from vocoder.models.base import FlowModel
from vocoder.nets.convnet2d import ConvEstimator, ConvNet2d, ZeroConv2d
from vocoder.nets.priors import PublishedTopPrior, SplitPrior, TopPrior
from vocoder.registry import register_model

SCALE_FLOOR = 1e-3  # least factor of an affine coupling


@dataclass(frozen=True)
class ImageFlowConfig:
    """What all image models have in common.

    With `parity` a model has the parameters and constants of its published code, number for number.
    Without it, it computes the same but for what this table says:

    ==================  ===================================  ======================================
    part                parity                               default
    ==================  ===================================  ======================================
    1 × 1 convolution   L, U as square matrices, log_s       all in one matrix, every entry used
                        beside them: C (C + 1) dead weights
    Gaussian top prior  a convolution of zeros: 36 C² dead   a mean and a log_std for each channel
                        weights
    affine coupling     scale σ(raw + 2): sinks to 0, and    at least 1e-3, so that the inverse
                        samples grow to infinity             stays finite
    ==================  ===================================  ======================================

    Weight decay pulls the norms and gates to the identity and each 1 × 1 convolution to a signed
    permutation, all of which preserve volume, so that it may act on every parameter.
    """

    image_channels: int = 3
    image_height: int = 32  # pixels; a multiple of 2 ** n_levels, as is the width
    image_width: int = 32
    n_levels: int = 3  # L: squeezes
    n_steps: int = 32  # K: steps of flow in each level
    channels: int = 256  # hidden channels of the coupling networks
    parity: bool = False

    def __post_init__(self) -> None:
        for name in ("n_steps", "channels"):
            if getattr(self, name) < 1:
                raise VocoderError(f"{name} must be at least 1, got {getattr(self, name)}")
        level_shapes(self.image_shape, self.n_levels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.image_channels, self.image_height, self.image_width


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


class ImageFlow(FlowModel):
    """A multi-scale flow over images of one size.

    Args:
        config: the sizes.
        steps: the bijections of each level.
        priors: of what leaves each level; `flows/multiscale.py` says what a prior is.
    """

    config: ImageFlowConfig

    def __init__(
        self,
        config: ImageFlowConfig,
        steps: Sequence[Sequence[Bijection]],
        priors: Sequence[Bijection],
    ) -> None:
        super().__init__(config)
        shapes = level_shapes(config.image_shape, config.n_levels)
        self.flow = MultiScale(shapes, steps, priors)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.config.image_shape

    @property
    def n_dims(self) -> int:
        """D = C · H · W."""
        return math.prod(self.image_shape)

    @abstractmethod
    def estimators(self) -> list[list[CouplingEstimator]]:
        """Return the estimator of every step of every level."""

    def forward(self, x: Tensor, cond: None = None) -> tuple[Tensor, Tensor]:
        """Map images to noise.

        Args:
            x: (B, C, H, W) in [-0.5, 0.5), dequantised.
            cond: no image model takes one.

        Returns:
            eps (B, D) and logdet (B,), so that log p(x) = log N(eps; 0, I) + logdet.
        """
        if x.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise VocoderError(
                f"images must be (B, {expected}), the size of the model, got {tuple(x.shape)}"
            )
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        return self.flow(x, self.estimators(), checkpointing)

    def inverse(self, z: Tensor, cond: None = None) -> Tensor:
        """Map noise (B, D) to images (B, C, H, W), not clamped to [-0.5, 0.5)."""
        if z.shape[1:] != (self.n_dims,):
            raise VocoderError(f"noise must be (B, {self.n_dims}), got {tuple(z.shape)}")
        return self.flow.inverse(z, self.estimators())

    def initialise(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Let every ActNorm start from the statistics of these images; see `flows/linear.py`."""
        initialise(self, x)


class ConvFlow(ImageFlow):
    """Steps of Glow whose estimators are plain convolutional networks.

    Args:
        config: the sizes.
        kernel_sizes: of the networks.
        head_size: kernel size of the heads.
        n_nets: networks in each level; K, or 1 that all its steps share.
        n_heads: heads in each level; K, or 1.
        n_extra: channels that each level's networks take beside the half that conditions.
        priors: of what leaves each level; Glow's own, if None.
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
        priors: Sequence[Bijection] | None = None,
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


def gaussian_priors(shapes: Sequence[LevelShape], parity: bool) -> list[Bijection]:
    """Return Glow's prior of each level."""
    top = PublishedTopPrior if parity else TopPrior
    splits: list[Bijection] = [SplitPrior(shape.n_given, shape.n_factored) for shape in shapes[:-1]]
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
