"""From pixels to continuous values and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from vocoder.data.images.reader import Pixels
from vocoder.data.images.sets import Images
from vocoder.errors import VocoderError
from vocoder.seeds import check_seed


def noisy_images(
    images: Images, places: Sequence[int], n_values: int, *, seed: int, draw: int = 0
) -> Tensor:
    """Return some images dequantised, (B, C, H, W) in [-0.5, 0.5).

    The noise of an image follows from the seed, its place and the draw: no batch changes it.

    Raises:
        VocoderError: `seed` is out of range.
    """
    check_seed(seed)
    randoms = (np.random.default_rng((seed, 4, place, draw)) for place in places)
    return dequantise_each(images[places], n_values, randoms)


# Float32 has room for 16 bits below a value of up to 255; with 15 and a half, a noisy value never
# rounds up into the next one, let alone to 0.5, and comes back exactly.
_NOISE_LEVELS = 1 << 15


def dequantise(pixels: Tensor, n_values: int, generator: torch.Generator | None = None) -> Tensor:
    """Return (pixels + u) / n_values - 0.5 with fresh noise u, uniform in (0, 1).

    Args:
        pixels: uint8 of any shape, 0 to `n_values` - 1; left as they are.
        n_values: how many values a pixel can have.
        generator: Generator of the noise, on the device of the pixels.

    Returns:
        float32 in [-0.5, 0.5). A density p of it and one P of the pixels, both in nats, have
        ln P >= E[ln p] - D ln(n_values) for D pixels (Theis et al., 2016).
    """
    noise = torch.randint(
        _NOISE_LEVELS, pixels.shape, generator=generator, device=pixels.device, dtype=torch.int32
    )
    return _spread(pixels, n_values, noise)


def dequantise_each(
    pixels: Pixels, n_values: int, randoms: Iterable[np.random.Generator]
) -> Tensor:
    """Dequantise images with a generator for each, so that no image's noise hangs on its batch.

    Args:
        pixels: (B, C, H, W), 0 to `n_values` - 1; left as they are.
        n_values: how many values a pixel can have.
        randoms: B generators, such as `np.random.default_rng((seed, index))`.

    Returns:
        (B, C, H, W), float32 in [-0.5, 0.5).
    """
    noise = np.empty(pixels.shape, np.int16)
    for image, random in zip(noise, randoms, strict=True):
        image[:] = random.integers(_NOISE_LEVELS, size=image.shape)
    return _spread(torch.from_numpy(pixels), n_values, torch.from_numpy(noise))


def _spread(pixels: Tensor, n_values: int, noise: Tensor) -> Tensor:
    return (pixels.float() + (noise.float() + 0.5) / _NOISE_LEVELS) / n_values - 0.5


def middles(pixels: Pixels, n_values: int) -> Tensor:
    """Return the middle of each pixel's step, in [-0.5, 0.5), for a picture of it without noise.

    Rounding moves no middle into another step, as it does the lower end of some.
    """
    return (torch.from_numpy(pixels).float() + 0.5) / n_values - 0.5


def quantise(x: Tensor, n_values: int) -> Tensor:
    """Return the pixels of numbers in [-0.5, 0.5), uint8; what lies outside becomes the nearest.

    Raises:
        VocoderError: a number is NaN.
    """
    if x.isnan().any():
        raise VocoderError(f"x: NaN in {int(x.isnan().sum())} of {x.numel()} values")
    return ((x + 0.5) * n_values).floor().clamp(0, n_values - 1).to(torch.uint8)
