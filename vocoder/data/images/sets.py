"""Opened image data sets: mapped or in memory, with a seeded split.

A reader yields what the original files hold. `open_images` keeps it in memory, or maps a folder
that `prepare_images` made of it (`vocoder preprocess`). Pixels stay uint8 until they are
dequantised; they are then numbers in [-0.5, 0.5), whatever the number of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vocoder.data.images.prepared import is_prepared, map_prepared
from vocoder.data.images.reader import IMAGE_SETS, ImageArrays, Inspection, Pixels
from vocoder.errors import VocoderError
from vocoder.seeds import check_seed

_MAX_IN_MEMORY = 1 << 30  # bytes of one split; each process of a training has its own


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
        name: Name of the reader.
        variant: which of several data sets that share a name; figures of two are not comparable.
        n_values: how many values a pixel can have, 0 to `n_values` - 1.
        train: (N, C, H, W), like the others.
        validation: carved out of the original training images by a seed, in random order, so that
            the first of them stand for all.
        test: The test images, as the data set has them.
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
        dataset: one of `image_sources.IMAGE_SETS.names()`.
        path: the original file or folder, or one made by `prepare_images`; None where the data set
            comes with a library.
        n_validation: training images to hold out for model selection.
        seed: Seed of the choice of validation images; the test images never depend on it.
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
    source = IMAGE_SETS.find(dataset)(path)
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
