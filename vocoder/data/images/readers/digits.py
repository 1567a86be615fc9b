"""The 1797 handwritten digits that ship with scikit-learn: 8x8, 17 grey values, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vocoder.data.images.reader import Source, register_images
from vocoder.errors import VocoderError

_N_TRAIN = 1500  # the other 297 are the test


@register_images("digits")
def read_digits(path: Path | None) -> Source:
    """Read the digits, with a split that is drawn once and for all."""
    if path is not None:
        raise VocoderError(f"{path}: digits come with scikit-learn; leave the path out")
    from sklearn.datasets import load_digits

    images = load_digits().images.astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    return Source(train=[images[order[:_N_TRAIN]]], test=[images[order[_N_TRAIN:]]], n_values=17)
