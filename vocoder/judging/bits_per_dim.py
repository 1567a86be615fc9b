"""How well a model of images fits: bits per dimension, and whether it can be inverted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from vocoder.data.images.dequantise import noisy_images
from vocoder.data.images.sets import Images
from vocoder.errors import VocoderError
from vocoder.flows.base import full_precision
from vocoder.models.families.image_flow import ImageFlow

F = TypeVar("F", float, Tensor)


@dataclass(frozen=True)
class BitsPerDim:
    """Upper bounds on the bits that the model needs for a pixel of one channel; less is better."""

    mean: float  # over images and draws of the noise
    standard_error: float  # of the mean, over images
    importance_weighted: float  # the tighter bound of all draws together (Burda et al., 2016)
    n_images: int
    n_draws: int
    # (N,) of each image, the mean of its draws; inf where one of them has no finite likelihood.
    by_image: Tensor = field(repr=False, compare=False)


def nats_to_bits(nats_per_dim: F, n_values: int) -> F:
    """Return bits per dimension of pixels, for a loss in nats per dimension of dequantised ones."""
    return nats_per_dim / math.log(2) + math.log2(n_values)


@torch.inference_mode()
def bits_per_dim(
    model: ImageFlow,
    images: Images,
    n_values: int,
    *,
    n_draws: int = 1,
    seed: int = 0,
    batch_size: int = 100,
) -> BitsPerDim:
    """Score images under a model in eval mode, in float32.

    The figure depends on the batch size by rounding alone. An image whose likelihood is not finite
    costs infinitely many bits, and so does the mean, so that none is left out of a comparison.

    Args:
        model: The model, on any device.
        images: Images of the model's shape.
        n_values: how many values a pixel can have.
        n_draws: how many times each image is dequantised.
        seed: Seed of the noise.
        batch_size: images scored at once; the last batch may be smaller.

    Raises:
        VocoderError: there are no images, or `seed` is out of range.
    """
    if not len(images):
        raise VocoderError("no images to score")
    device = next(model.parameters()).device
    parts = []  # log-probabilities (B, n_draws) of a batch
    for first in range(0, len(images), batch_size):
        places = range(first, min(first + batch_size, len(images)))
        noisy = (
            noisy_images(images, places, n_values, seed=seed, draw=draw) for draw in range(n_draws)
        )
        with full_precision(device):
            draws = [model.log_prob(x.to(device)) for x in noisy]
        parts.append(torch.stack(draws, dim=1).double().cpu())
    log_probs = torch.cat(parts)
    # A likelihood of NaN is no better than none at all.
    log_probs[~log_probs.isfinite()] = -math.inf
    n_dims = math.prod(images.shape[1:])

    def bits(log_prob: Tensor) -> Tensor:
        return -log_prob / n_dims / math.log(2) + math.log2(n_values)

    of_images = bits(log_probs).mean(dim=1)
    together = log_probs.logsumexp(dim=1) - math.log(n_draws)
    spread = of_images.std().item() if len(images) > 1 else math.nan
    return BitsPerDim(
        mean=of_images.mean().item(),
        standard_error=spread / math.sqrt(len(images)),
        importance_weighted=bits(together).mean().item(),
        n_images=len(images),
        n_draws=n_draws,
        by_image=of_images,
    )


@torch.inference_mode()
def inversion_error(model: ImageFlow, x: Tensor) -> float:
    """Return the largest |inverse(forward(x)) - x|; pixels lie 1 / n_values apart.

    Args:
        model: The model, in eval mode.
        x: dequantised images (B, C, H, W), on the model's device.
    """
    with full_precision(x.device):
        z, _ = model(x)
        return float((model.inverse(z) - x).abs().max())
