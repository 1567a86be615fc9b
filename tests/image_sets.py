"""Images in the formats of data sets, and what a data set of them must give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError


def pictures(n: int, channels: int = 3, height: int = 32, width: int = 32, seed: int = 0):
    """Return random images (N, C, H, W) with coloured corners, which no other order of axes has."""
    shape = (n, channels, height, width)
    images = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    if channels == 3:
        images[:, :, 0, 0] = (255, 0, 0)  # top left is red
        images[:, :, 0, -1] = (0, 255, 0)  # top right is green
        images[:, :, -1, 0] = (0, 0, 255)  # bottom left is blue
    return images


TRAIN, TEST = pictures(20), pictures(6, seed=1)


def check(dataset: str, path: Path | None, train=TRAIN, test=TEST, variant: str = "") -> None:
    """Check that a data set opens with exactly these images, in any order where it is random."""
    opened = open_images(dataset, path, n_validation=0, seed=0)
    np.testing.assert_array_equal(opened.train[:], train)
    np.testing.assert_array_equal(opened.test[:], test)
    assert (opened.name, opened.variant, opened.n_values) == (dataset, variant, 256)


def refuse(dataset: str, path: Path, *words: str) -> None:
    """Check that a data set is refused in one line with these words."""
    with pytest.raises(VocoderError) as caught:
        open_images(dataset, path, n_validation=0, seed=0)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def write_pngs(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images, start=1):
        pixels = image.transpose(1, 2, 0)
        Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels).save(
            folder / f"{number}.png"
        )


class Payload:
    """Pickles into a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call
