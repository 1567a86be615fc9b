"""MNIST and whatever else comes as idx files: 28x28 grey images, packed by gzip or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vocoder.data.images.reader import Pixels, Source, needed, register_images
from vocoder.errors import VocoderError, reason

_UINT8 = 8  # idx's code of the type
_MAX_BYTES = 1 << 30


@register_images("mnist")
def read_mnist(path: Path | None) -> Source:
    """Read the two image files of MNIST, or of a set made like it, such as Fashion-MNIST.

    Args:
        path: the folder with train-images-idx3-ubyte and t10k-images-idx3-ubyte, with or without
            .gz, or one that holds it as MNIST/raw.
    """
    folder = needed(path, "mnist")
    nested = folder / "MNIST" / "raw"
    folder = nested if nested.is_dir() else folder
    train, test = (
        read_idx(_find(folder, f"{split}-images-idx3-ubyte")) for split in ("train", "t10k")
    )
    return Source(train=[train[:, None]], test=[test[:, None]])


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise VocoderError(f"{folder}: has neither {name} nor {name}.gz")


def read_idx(path: Path) -> Pixels:
    """Read the images (N, H, W) of an idx file.

    Two zero bytes, the type, the number of axes, each axis's length as big-endian uint32, then the
    pixels row by row (LeCun's MNIST page).

    Raises:
        VocoderError: it is damaged, or holds something else, such as labels.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse_idx(file, path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise VocoderError(f"{path}: damaged ({reason(error)}); fetch it again") from None


def _parse_idx(file: BinaryIO | gzip.GzipFile, path: Path) -> Pixels:
    head = file.read(16)
    if head[:4] != bytes([0, 0, _UINT8, 3]) or len(head) < 16:
        mark = head[:4].hex() or "nothing"
        raise VocoderError(f"{path}: begins with {mark}, not 00000803, the mark of idx images")
    shape = struct.unpack(">3I", head[4:])
    size = math.prod(shape)
    if not 0 < size <= _MAX_BYTES:
        raise VocoderError(f"{path}: claims {shape} pixels; fetch it again")
    pixels = file.read(size)
    if len(pixels) < size or file.read(1):
        found = f"only {len(pixels)}" if len(pixels) < size else "more"
        raise VocoderError(
            f"{path}: claims {shape} = {size} pixels and holds {found}; fetch it again"
        )
    return np.frombuffer(pixels, np.uint8).reshape(shape)
