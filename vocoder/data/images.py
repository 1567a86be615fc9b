"""Image data sets: readers by name, seeded splits, and batches that follow from the step alone.

A reader yields what the original files hold. `open_images` keeps it in memory, or maps a folder
that `prepare_images` made of it (`vocoder preprocess`). Pixels stay uint8 until they are
dequantised; they are then numbers in [-0.5, 0.5), whatever the number of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.data.image_sources import ImageArrays, Inspection, Pixels, find_images
from vocoder.data.prepared_images import is_prepared, map_prepared
from vocoder.errors import VocoderError
from vocoder.seeds import check_seed

_MAX_IN_MEMORY = 1 << 30  # bytes of one split; each process of a training has its own

# ---- an opened data set ----


@dataclass(frozen=True)
class Images:
    """Some images of an array in memory or on disk, looked up when asked for.

    Args:
        array: (M, C, h, w).
        rows: which images of `array`, (N,).
        side: pad both sides with zeros to this length, as evenly as may be; 0 leaves them.
    """

    array: Pixels
    rows: npt.NDArray[np.int64]
    side: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (N, C, H, W)."""
        channels, height, width = self.array.shape[1:]
        return len(self), channels, max(height, self.side), max(width, self.side)

    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[np.int64]) -> Pixels:
        """Return a copy of the images of a slice or of a list of indices, (n, C, H, W)."""
        images = np.asarray(self.array[self.rows[index]])
        missing = [max(0, self.side - length) for length in images.shape[2:]]
        if not any(missing):
            return images
        return np.pad(images, [(0, 0), (0, 0), *((m // 2, m - m // 2) for m in missing)])


@dataclass(frozen=True)
class ImageSet:
    """Three splits of one data set.

    Training sees `train`, model selection `validation`, and `test` is for the final figure alone.

    Args:
        name: of the reader.
        variant: which of several data sets that share a name; figures of two are not comparable.
        n_values: how many values a pixel can have, 0 to `n_values` - 1.
        train: (N, C, H, W), like the others.
        validation: carved out of the original training images by a seed, in random order, so that
            the first of them stand for all.
        test: as the data set has it.
        fingerprint: sha256 of all pixels and shapes as they are read: before padding, and
            whatever the validation split.
    """

    name: str
    variant: str
    n_values: int
    train: Images = field(repr=False)
    validation: Images = field(repr=False)
    test: Images = field(repr=False)
    fingerprint: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an image, padding included."""
        return self.train.shape[1:]

    def __str__(self) -> str:
        """Name the data in one line, with all that decides whether two figures compare."""
        title = f"{self.name} ({self.variant})" if self.variant else self.name
        counts = (
            f"{len(self.train)} training, {len(self.validation)} validation "
            f"and {len(self.test)} test images"
        )
        channels, height, width = self.image_shape
        return f"{title}: {counts} of {height}x{width}x{channels}, {self.n_values} values"


def open_images(
    dataset: str, path: Path | None = None, *, n_validation: int, seed: int, side: int = 0
) -> ImageSet:
    """Open a data set by name.

    Args:
        dataset: one of `image_sources.image_set_names()`.
        path: the original file or folder, or one made by `prepare_images`; None where the data set
            comes with a library.
        n_validation: training images to hold out for model selection.
        seed: of the choice of them; the test images never depend on it.
        side: pad both sides of each image with zeros to this length; 0 leaves them.

    Raises:
        VocoderError: there is no such data set, the files are not whole, or `seed` is out of range.
    """
    check_seed(seed)
    data = _read(dataset, path)
    for length in data.train.shape[2:]:
        if side and side < length:
            raise VocoderError(f"images.side: is {side}, the images of {dataset} have {length}")
    if not 0 <= n_validation < len(data.train):
        raise VocoderError(
            f"images.n_validation: is {n_validation}, "
            f"{dataset} has {len(data.train)} training images"
        )
    order = np.random.default_rng((seed, 2)).permutation(len(data.train))
    return ImageSet(
        name=dataset,
        variant=data.variant,
        n_values=data.n_values,
        train=Images(data.train, np.sort(order[n_validation:]), side),
        validation=Images(data.train, order[:n_validation], side),
        test=Images(data.test, np.arange(len(data.test)), side),
        fingerprint=data.fingerprint,
    )


def _read(dataset: str, path: Path | None) -> ImageArrays:
    if path is not None and is_prepared(path):
        return map_prepared(dataset, path)
    source = find_images(dataset)(path)
    inspection = Inspection(source.n_values, str(path or dataset))
    train, test = (
        _gather(inspection.passing(chunks, split), dataset, path)
        for split, chunks in (("training", source.train), ("test", source.test))
    )
    return ImageArrays(train, test, source.n_values, source.variant, inspection.fingerprint)


def _gather(chunks: Iterable[Pixels], dataset: str, path: Path | None) -> Pixels:
    kept: list[Pixels] = []
    n_bytes = 0
    for chunk in chunks:
        kept.append(chunk)
        n_bytes += chunk.nbytes
        if n_bytes > _MAX_IN_MEMORY:
            raise VocoderError(
                f"{path}: holds more than {_MAX_IN_MEMORY >> 30} GiB of images; convert it once: "
                f"vocoder preprocess {dataset} --source {path} --out FOLDER"
            )
    return np.concatenate(kept)


# ---- batches ----


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
        n_values: of a pixel.
        seed: of order, augmentation and noise.
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
            rank: this process.
            n_ranks: all processes.
        """
        share = batch_size // n_ranks
        first = step * batch_size + rank * share
        places = range(first, first + share)
        chosen = [self._order(place // len(self.images)) for place in places]
        rows = [order[place % len(order)] for order, place in zip(chosen, places, strict=True)]
        randoms = [np.random.default_rng((self.seed, 1, place)) for place in places]
        pixels = self.augmentation.apply(self.images[np.array(rows)], randoms)
        return dequantise_each(pixels, self.n_values, randoms)


# ---- pixels to numbers and back ----

# Float32 has room for 16 bits below a value of up to 255; with 15 and a half, a noisy value never
# rounds up into the next one, let alone to 0.5, and comes back exactly.
_NOISE_LEVELS = 1 << 15


def dequantise(pixels: Tensor, n_values: int, generator: torch.Generator | None = None) -> Tensor:
    """Return (pixels + u) / n_values - 0.5 with fresh noise u, uniform in (0, 1).

    Args:
        pixels: uint8 of any shape, 0 to `n_values` - 1; left as they are.
        n_values: how many values a pixel can have.
        generator: of the noise, on the device of the pixels.

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


def quantise(x: Tensor, n_values: int) -> Tensor:
    """Return the pixels of numbers in [-0.5, 0.5), uint8; what lies outside becomes the nearest.

    Raises:
        VocoderError: a number is NaN.
    """
    if x.isnan().any():
        raise VocoderError(f"x: NaN in {int(x.isnan().sum())} of {x.numel()} values")
    return ((x + 0.5) * n_values).floor().clamp(0, n_values - 1).to(torch.uint8)
