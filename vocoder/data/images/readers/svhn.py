"""SVHN, the cropped house numbers: 32x32 in colour, in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vocoder.data.images.reader import Pixels, Source, needed, register_images
from vocoder.errors import VocoderError, reason


@register_images("svhn")
def read_svhn(path: Path | None) -> Source:
    """Read SVHN; the `extra` images are not part of it.

    Args:
        path: the folder with train_32x32.mat and test_32x32.mat.
    """
    folder = needed(path, "svhn")
    train, test = (read_mat(folder / f"{split}_32x32.mat") for split in ("train", "test"))
    return Source(train=[train], test=[test])


def read_mat(path: Path) -> Pixels:
    """Read the images (N, 3, 32, 32) of a MATLAB file, which keeps them in X (32, 32, 3, N).

    MATLAB drops trailing axes of length 1, so that X (32, 32, 3) is one image.

    Raises:
        VocoderError: it is missing, damaged, or holds something else.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise VocoderError(f"{path}: no such file")
    try:
        images = loadmat(path, variable_names=["X"]).get("X")
    except Exception as error:  # scipy raises anything on damaged bytes
        raise VocoderError(f"{path}: not a readable MATLAB file ({reason(error)})") from None
    if images is not None and images.ndim == 3:
        images = images[..., None]
    if images is None or images.dtype != np.uint8 or images.shape[:-1] != (32, 32, 3):
        found = "nothing" if images is None else f"{images.dtype} {images.shape}"
        raise VocoderError(f"{path}: X must be uint8 (32, 32, 3, N), is {found}")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1))
