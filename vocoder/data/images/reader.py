"""Readers of image files: what each yields, how one is found by its name, and what is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError
from vocoder.registry import Registry

Pixels = npt.NDArray[np.uint8]


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
IMAGE_SETS: Registry[Reader] = Registry("image set", "vocoder.data.images.readers")


def register_images(*names: str) -> Callable[[R], R]:
    """Decorator of a reader: make it known by each of `names`.

    Raises:
        ConfigError: A name is taken.
    """

    def register(reader: R) -> R:
        IMAGE_SETS.register(reader, *names)
        return reader

    return register


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


def split_rows(count: int, where: Path) -> tuple[list[int], list[int]]:
    """Return which of `count` images are for training and which, a tenth, for the test.

    The draw is the same for ever: the seed of a training must not decide what it is tested on.

    Raises:
        VocoderError: there are fewer than two images.
    """
    if count < 2:
        raise VocoderError(f"{where}: has {count} images; at least 2 are needed, one for the test")
    order = np.random.default_rng(0).permutation(count).tolist()
    n_test = -(-count // 10)
    return sorted(order[n_test:]), sorted(order[:n_test])


@dataclass(frozen=True)
class ImageArrays:
    """A whole data set, in memory or mapped.

    Args:
        train: (N, C, H, W).
        test: (N, C, H, W).
        n_values: how many values a pixel can have, 0 to `n_values` - 1.
        variant: which of several data sets that share a name.
        fingerprint: sha256 of all pixels, the shapes and `n_values`.
    """

    train: Pixels
    test: Pixels
    n_values: int
    variant: str
    fingerprint: str


class Inspection:
    """Checks images on their way through, and takes their fingerprint.

    Args:
        n_values: how many values a pixel can have.
        where: the file or data set, for messages.
    """

    def __init__(self, n_values: int, where: str) -> None:
        self.n_values = n_values
        self.where = where
        self._shape: tuple[int, ...] = ()
        self._counts: list[int] = []
        self._digest = hashlib.sha256()

    def passing(self, chunks: Iterable[Pixels], split: str) -> Iterator[Pixels]:
        """Pass on the chunks of a split; the training split goes first.

        Raises:
            VocoderError: there is none, or not all images have one shape and the range of values.
        """
        count = 0
        for chunk in chunks:
            self._shape = self._shape or chunk.shape[1:]
            if chunk.shape[1:] != self._shape:
                raise VocoderError(
                    f"{self.where}: {split} images of {_size(chunk.shape[1:])} after others of "
                    f"{_size(self._shape)}; all must have one size"
                )
            if self.n_values < 256 and chunk.size and chunk.max() >= self.n_values:
                raise VocoderError(
                    f"{self.where}: value {chunk.max()} in a {split} image, and {self.n_values} "
                    f"values end at {self.n_values - 1}"
                )
            if len(chunk):
                chunk = np.ascontiguousarray(chunk)
                self._digest.update(chunk.data)
                count += len(chunk)
                yield chunk
        if not count:
            raise VocoderError(f"{self.where}: has no {split} images")
        self._counts.append(count)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all that passed."""
        digest = self._digest.copy()
        digest.update(repr((self.n_values, tuple(self._shape), self._counts)).encode())
        return digest.hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
