"""Batches of training images, shuffled and augmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vocoder.data.images.dequantise import dequantise_each
from vocoder.data.images.reader import Pixels
from vocoder.data.images.sets import Images


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied; by default not at all.

    Args:
        flip: mirror half of the images left to right.
        shift: move each image by up to this many pixels along each side.
        fill: what comes in at the edge: zeros, or the edge's own pixels.
    """

    flip: bool = False
    shift: int = 0
    fill: Literal["zero", "edge"] = "zero"

    def apply(self, images: Pixels, randoms: Sequence[np.random.Generator]) -> Pixels:
        """Return varied copies of the images (B, C, H, W), each drawn from a generator of its own.

        As many numbers are drawn whatever the settings, so that the same noise follows.
        """
        height, width = images.shape[2:]
        edge = [(0, 0), (0, 0), (self.shift, self.shift), (self.shift, self.shift)]
        wide = np.pad(images, edge, "edge") if self.fill == "edge" else np.pad(images, edge)
        varied = np.empty_like(images)
        for image, target, random in zip(wide, varied, randoms, strict=True):
            flipped, down, right = random.random(3)
            top, left = (int(draw * (2 * self.shift + 1)) for draw in (down, right))
            window = image[:, top : top + height, left : left + width]
            target[:] = window[:, :, ::-1] if self.flip and flipped < 0.5 else window
        return varied


class ImageBatches:
    """Dequantised batches in random order, every image once an epoch.

    No sampler state exists that a resumed run would have to restore, and no number of processes
    changes a batch: image, augmentation and noise follow from the seed and the place in the
    sequence alone.

    Args:
        images: a training split.
        n_values: Number of values of a pixel.
        seed: Seed of the order, the augmentation and the noise.
        augmentation: how the images are varied.
    """

    def __init__(
        self,
        images: Images,
        n_values: int,
        seed: int,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        self.images = images
        self.n_values = n_values
        self.seed = seed
        self.augmentation = augmentation
        self._order = lru_cache(maxsize=2)(self._order_of)  # a batch may span two epochs

    def _order_of(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.images))

    def batch(self, step: int, batch_size: int, rank: int = 0, n_ranks: int = 1) -> Tensor:
        """Return this process's share of the joint batch of a step, (B, C, H, W) in [-0.5, 0.5).

        Args:
            step: the optimiser step, counted from 0.
            batch_size: images of all processes together; a multiple of `n_ranks`.
            rank: Number of this process.
            n_ranks: Number of all processes.
        """
        share = batch_size // n_ranks
        first = step * batch_size + rank * share
        places = range(first, first + share)
        chosen = [self._order(place // len(self.images)) for place in places]
        rows = [order[place % len(order)] for order, place in zip(chosen, places, strict=True)]
        randoms = [np.random.default_rng((self.seed, 1, place)) for place in places]
        pixels = self.augmentation.apply(self.images[np.array(rows)], randoms)
        return dequantise_each(pixels, self.n_values, randoms)
