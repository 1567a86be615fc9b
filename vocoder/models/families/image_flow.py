"""Flows over images: what Glow, NanoGlow and mAR-SCF share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.flows.coupling import CouplingEstimator
from vocoder.flows.multiscale import MultiScale, Prior, Step, level_shapes
from vocoder.models.families.flow import FlowModel, standard_normal_log_prob
from vocoder.models.families.sizes import check_sizes

SCALE_FLOOR = 1e-3  # least factor of an affine coupling
# From which size on convolutional networks train faster in bf16 on a CPU that multiplies in it: in
# float32 a step of 28 × 28 pixels took 1.3 (`fashion/marscf-affine`) to 2.5 times as long
# (`fashion/nanoglow`), and one of 8 × 8 pixels as long as in bf16, with 32 as with 64 channels.
_BF16_CHANNELS, _BF16_PIXELS = 32, 28 * 28


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
    Gaussian splits     log_std unbounded                    log_std within ±5
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
        check_sizes(self, "n_steps", "channels")
        check_sizes(self, "n_levels", "image_channels", "image_height", "image_width")
        level_shapes(self.image_shape, self.n_levels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.image_channels, self.image_height, self.image_width

    @property
    def convolutions_gain_from_bf16(self) -> bool:
        """Whether convolutions of these sizes are faster in bf16 on a CPU that multiplies in it."""
        n_pixels = self.image_height * self.image_width
        return self.channels >= _BF16_CHANNELS and n_pixels >= _BF16_PIXELS


class ImageFlow(FlowModel):
    """A multi-scale flow over images of one size.

    Args:
        config: Sizes of the model.
        steps: The bijections of each level.
        priors: Priors of what leaves each level; `flows/multiscale.py` says what a prior is.
    """

    config: ImageFlowConfig

    def __init__(
        self,
        config: ImageFlowConfig,
        steps: Sequence[Sequence[Step]],
        priors: Sequence[Prior],
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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images to noise.

        Args:
            x: (B, C, H, W) in [-0.5, 0.5), dequantised.

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

    def inverse(self, z: Tensor) -> Tensor:
        """Map noise (B, D) to images (B, C, H, W), not clamped to [-0.5, 0.5)."""
        if z.shape[1:] != (self.n_dims,):
            raise VocoderError(f"noise must be (B, {self.n_dims}), got {tuple(z.shape)}")
        return self.flow.inverse(z, self.estimators())

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, (B,), of images (B, C, H, W)."""
        z, logdet = self(x)
        return standard_normal_log_prob(z).flatten(1).sum(dim=1) + logdet

    def sample(
        self,
        n_images: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw images (B, C, H, W) by noise of N(0, temperature²)."""
        like = next(self.parameters())
        shape = n_images, self.n_dims
        z = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        return self.inverse(z * temperature)
