"""Image data sets: readers by name, seeded splits, and batches that follow from the step alone.

A reader yields what the original files hold. `open_images` keeps it in memory, or maps a folder
that `prepare_images` made of it (`vocoder preprocess`). Pixels stay uint8 until they are
dequantised; they are then numbers in [-0.5, 0.5), whatever the number of values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.config import suggest
from vocoder.errors import VocoderError

Pixels = npt.NDArray[np.uint8]
_MAX_IN_MEMORY = 1 << 30  # bytes of one split; each process of a training has its own

# ---- readers ----


@dataclass(frozen=True)
class Source:
    """What a reader found; each chunk is some images (n, C, H, W), all of one shape.

    Args:
        train: chunks of the training images.
        test: chunks of the test images.
        n_values: how many values a pixel can have, 0 to `n_values` - 1.
        variant: which of several data sets that share a name; figures of two are not comparable.
    """

    train: Iterable[Pixels]
    test: Iterable[Pixels]
    n_values: int = 256
    variant: str = ""


# A reader takes the file or folder of the data set; one that needs none is given None.
Reader = Callable[["Path | None"], Source]
R = TypeVar("R", bound=Reader)
_READERS: dict[str, Reader] = {}


def register_images(*names: str) -> Callable[[R], R]:
    """Decorator of a reader: make it known by each of `names`."""

    def register(reader: R) -> R:
        _READERS.update(dict.fromkeys(names, reader))
        return reader

    return register


def image_set_names() -> list[str]:
    """Return the names of all readers."""
    from vocoder.data import digits  # noqa: F401  (they register themselves)

    return sorted(_READERS)


def find_images(name: str) -> Reader:
    """Return the reader called `name`.

    Raises:
        VocoderError: there is no such reader.
    """
    names = image_set_names()
    if name not in names:
        raise VocoderError(
            f"image set {name!r}: unknown{suggest(name, names)}; known: {', '.join(names)}"
        )
    return _READERS[name]


def needed(path: Path | None, name: str) -> Path:
    """Return `path`, for readers that cannot do without.

    Raises:
        VocoderError: it is None, or nothing is there.
    """
    if path is None:
        raise VocoderError(f"image set {name!r}: needs the file or folder that holds it (--data)")
    if not path.exists():
        raise VocoderError(f"{path}: no such file or folder")
    return path


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
        validation: carved out of the original training images by a seed.
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
        dataset: one of `image_set_names()`.
        path: the original file or folder, or one made by `prepare_images`; None where the data set
            comes with a library.
        n_validation: training images to hold out for model selection.
        seed: of the choice of them; the test images never depend on it.
        side: pad both sides of each image with zeros to this length; 0 leaves them.

    Raises:
        VocoderError: there is no such data set, or the files are not whole.
    """
    train, test, source, fingerprint = _arrays(dataset, path)
    for length in train.shape[2:]:
        if side and side < length:
            raise VocoderError(f"data.side: is {side}, the images of {dataset} have {length}")
    if not 0 <= n_validation < len(train):
        raise VocoderError(
            f"data.n_validation: is {n_validation}, {dataset} has {len(train)} training images"
        )
    order = np.random.default_rng((seed, 2)).permutation(len(train))
    return ImageSet(
        name=dataset,
        variant=source.variant,
        n_values=source.n_values,
        train=Images(train, np.sort(order[n_validation:]), side),
        validation=Images(train, np.sort(order[:n_validation]), side),
        test=Images(test, np.arange(len(test)), side),
        fingerprint=fingerprint,
    )


def _arrays(dataset: str, path: Path | None) -> tuple[Pixels, Pixels, Source, str]:
    source = find_images(dataset)(path)
    where = str(path or dataset)
    digest = hashlib.sha256()
    splits = []
    for split, chunks in (("train", source.train), ("test", source.test)):
        parts: list[Pixels] = []
        n_bytes = 0
        for chunk in checked(chunks, source.n_values, f"{where}: {split}"):
            parts.append(chunk)
            n_bytes += chunk.nbytes
            if n_bytes > _MAX_IN_MEMORY:
                raise VocoderError(
                    f"{where}: holds more than {_MAX_IN_MEMORY >> 30} GiB of images; convert it "
                    f"once: vocoder preprocess {dataset} --source {where} --out FOLDER"
                )
            digest.update(np.ascontiguousarray(chunk).data)
        splits.append(np.concatenate(parts))
    digest.update(repr([source.n_values, *(split.shape for split in splits)]).encode())
    return splits[0], splits[1], source, digest.hexdigest()


def checked(chunks: Iterable[Pixels], n_values: int, where: str) -> Iterator[Pixels]:
    """Pass chunks on, as long as they are images of one shape and range, and there are some.

    Raises:
        VocoderError: they are not.
    """
    shape = None
    for chunk in chunks:
        shape = shape or chunk.shape[1:]
        if chunk.dtype != np.uint8 or chunk.ndim != 4 or chunk.shape[1:] != shape:
            raise VocoderError(
                f"{where}: {chunk.dtype} {chunk.shape[1:]} images after uint8 {shape}; "
                "all must have one shape (C, H, W) and type uint8"
            )
        if n_values < 256 and chunk.size and chunk.max() >= n_values:
            raise VocoderError(f"{where}: value {chunk.max()} among {n_values} values from 0")
        if chunk.size:
            yield chunk
    if shape is None:
        raise VocoderError(f"{where}: no images")


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
