"""Images that are not clothes, in MNIST's format, to ask what a likelihood says of them."""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vocoder.data.images.sets import open_images
from vocoder.files.atomic import atomic_path

SIDE = 28
N_IMAGES = 1000  # of each kind


def write_outside(folder: Path, data: Path | None) -> list[Path]:
    """Write a data set for each kind of images, a folder each, that a trained model can score.

    Args:
        folder: Folder of the data sets. Several processes may write there at once.
        data: Path of Fashion-MNIST; None is where Debian puts it.

    Returns:
        The data sets, each to be named as `--data`.
    """
    test = open_images("fashion-mnist", data, n_validation=0, seed=0).test[:N_IMAGES][:, 0]
    kinds = {
        "digits": _digits(),
        "noise": np.random.default_rng(0).integers(256, size=(N_IMAGES, SIDE, SIDE)),
        "upside-down": test[:, ::-1],
    }
    for name, images in kinds.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for split in ("train", "t10k"):
            path = place / f"{split}-images-idx3-ubyte"
            if not path.is_file():
                with atomic_path(path) as temporary:
                    temporary.write_bytes(_idx(images.astype(np.uint8)))
    return [folder / name for name in kinds]


def _digits() -> npt.NDArray[np.uint8]:
    """Return scikit-learn's digits, enlarged to 20 pixels a side in a black frame, as MNIST's."""
    from sklearn.datasets import load_digits

    digits = np.zeros((N_IMAGES, SIDE, SIDE), np.uint8)
    for target, digit in zip(digits, load_digits().images[:N_IMAGES], strict=True):
        small = Image.fromarray(np.rint(digit * 255 / 16).astype(np.uint8))
        target[4:24, 4:24] = small.resize((20, 20), Image.Resampling.BICUBIC)
    return digits


def _idx(images: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
