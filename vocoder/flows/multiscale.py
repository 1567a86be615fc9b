"""The multi-scale skeleton of image flows: squeeze, K steps and a split at each level.

Every part that leaves the flow, at a split or at the top, passes a *prior*: a bijection to standard
normal noise that is affine given what stays,

    eps, logdet = prior(z2, given)          z2, eps (B, C2, H, W), logdet (B,)
    z2 = prior.inverse(eps, given)          given: z1 (B, C1, H, W) that goes on, None at the top

so that likelihood, temperature, reconstruction and interpolation are one path for every prior:
log p(x) = log N(eps; 0, I) + logdet. A Gaussian prior is eps = (z2 - mean(given)) / std(given); an
autoregressive one takes mean and std of each channel from the channels before it as well.

Source: Real NVP (ICLR 2017), §3.6; Glow (NeurIPS 2018), figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vocoder.errors import VocoderError
from vocoder.flows.base import Bijection
from vocoder.flows.coupling import Coupling, CouplingEstimator
from vocoder.flows.elementwise import Elementwise
from vocoder.flows.linear import ActNorm, Conv1x1
from vocoder.flows.reshape import squeeze2d, unsqueeze2d

Step = Bijection[[CouplingEstimator]]
Prior = Bijection[[Tensor | None]]


@dataclass(frozen=True)
class LevelShape:
    """What one level works on, after its squeeze."""

    channels: int  # C of its steps
    height: int
    width: int
    n_given: int  # channels z1 that go on to the next level; 0 at the top

    @property
    def n_factored(self) -> int:
        """Channels z2 that leave through the prior."""
        return self.channels - self.n_given


def level_shapes(image_shape: tuple[int, int, int], n_levels: int) -> list[LevelShape]:
    """Return the shape of each level for images (C, H, W).

    Raises:
        VocoderError: a side is not a multiple of 2 ** n_levels.
    """
    channels, height, width = image_shape
    factor = 2**n_levels
    if min(image_shape) < 1 or n_levels < 1:
        raise VocoderError(f"image {image_shape} with {n_levels} levels: all must be at least 1")
    if height % factor or width % factor:
        raise VocoderError(
            f"image of {height} x {width} pixels: both sides must divide by {factor} "
            f"(2 ** n_levels, n_levels = {n_levels}); pad the images or take fewer levels"
        )
    shapes = []
    for level in range(n_levels):
        channels, height, width = 4 * channels, height // 2, width // 2
        n_given = channels // 2 if level < n_levels - 1 else 0
        shapes.append(LevelShape(channels, height, width, n_given))
        channels = n_given
    return shapes


class FlowStep(Bijection[[CouplingEstimator]]):
    """ActNorm, 1 × 1 convolution, coupling (Glow, table 1).

    Args:
        channels: Number of channels C.
        transform: the coupling's elementwise map.
        square: Whether L and U are stored as square matrices; see `Conv1x1`.
    """

    def __init__(self, channels: int, transform: Elementwise, square: bool = False) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mix = Conv1x1(channels, square)
        self.couple = Coupling(transform)

    def forward(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Map x (B, C, H, W) to z; return z and its log-determinant (B,)."""
        x, norm_logdet = self.norm(x)
        x, mix_logdet = self.mix(x)
        z, couple_logdet = self.couple(x, estimator)
        return z, norm_logdet + mix_logdet + couple_logdet

    def inverse(self, z: Tensor, estimator: CouplingEstimator) -> Tensor:
        """Map z to x."""
        return self.norm.inverse(self.mix.inverse(self.couple.inverse(z, estimator)))


class MultiScale(Bijection[[Sequence[Sequence[CouplingEstimator]]]]):
    """Images to noise, level by level.

    Args:
        shapes: Shapes of the levels, as `level_shapes` gives them.
        steps: the bijections of each level, each called as step(x, estimator).
        priors: one for each level; see the top of this file.
    """

    def __init__(
        self,
        shapes: Sequence[LevelShape],
        steps: Sequence[Sequence[Step]],
        priors: Sequence[Prior],
    ) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.steps = nn.ModuleList(nn.ModuleList(level) for level in steps)
        self.priors = nn.ModuleList(priors)

    def forward(
        self,
        x: Tensor,
        estimators: Sequence[Sequence[CouplingEstimator]],
        checkpointing: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Map images to noise.

        Args:
            x: (B, C, H, W).
            estimators: one for each step of each level.
            checkpointing: keep only what enters each step for the backward pass, and compute the
                rest anew there.

        Returns:
            eps (B, D), the levels' parts one after the other, the top last; and logdet (B,).
        """
        parts = []
        logdet = x.new_zeros(len(x))
        for i, (shape, prior) in enumerate(zip(self.shapes, self.priors, strict=True)):
            x = squeeze2d(x)
            for step, estimator in self._level(i, estimators):
                if checkpointing:
                    x, step_logdet = checkpoint(step, x, estimator, use_reentrant=False)
                else:
                    x, step_logdet = step(x, estimator)
                logdet = logdet + step_logdet
            given, factored = x.split([shape.n_given, shape.n_factored], dim=1)
            eps, prior_logdet = prior(factored, given if shape.n_given else None)
            parts.append(eps.flatten(1))
            logdet = logdet + prior_logdet
            x = given
        return torch.cat(parts, dim=1), logdet

    def inverse(self, eps: Tensor, estimators: Sequence[Sequence[CouplingEstimator]]) -> Tensor:
        """Map noise (B, D) to images (B, C, H, W)."""
        sizes = [shape.n_factored * shape.height * shape.width for shape in self.shapes]
        x: Tensor | None = None
        for i, part in reversed(list(enumerate(eps.split(sizes, dim=1)))):
            shape = self.shapes[i]
            part = part.unflatten(1, (shape.n_factored, shape.height, shape.width))
            factored = self.priors[i].inverse(part, x)  # type: ignore[operator]
            x = factored if x is None else torch.cat([x, factored], dim=1)
            for step, estimator in reversed(self._level(i, estimators)):
                x = step.inverse(x, estimator)
            x = unsqueeze2d(x)
        assert x is not None
        return x

    def _level(
        self, index: int, estimators: Sequence[Sequence[CouplingEstimator]]
    ) -> list[tuple[Step, CouplingEstimator]]:
        """Return the steps of a level, each with its estimator."""
        steps: nn.ModuleList = self.steps[index]  # type: ignore[assignment]
        return list(zip(steps, estimators[index], strict=True))  # type: ignore[arg-type]
