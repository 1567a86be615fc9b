"""Images as .npy and .npz arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vocoder.data.images.reader import Pixels, Source, needed, register_images, split_rows
from vocoder.errors import VocoderError
from vocoder.files.arrays import load_npy, load_npz

_CHUNK = 1024  # images


@register_images("arrays")
def read_arrays(path: Path | None) -> Source:
    """Read images of type uint8, (N, C, H, W), (N, H, W, C) or grey (N, H, W), C being 1 or 3.

    Args:
        path: a folder with train.npy and test.npy; an .npz with `train` and `test`, or with one
            array, and maybe `n_values` (otherwise 256); or an .npy. A single array has a tenth
            drawn for the test, once and for all.
    """
    place = needed(path, "arrays")
    if place.is_dir():
        arrays = {name: load_npy(place / f"{name}.npy") for name in ("train", "test")}
    elif place.suffix == ".npz":
        arrays = load_npz(place)
    elif place.suffix == ".npy":
        arrays = {"images": load_npy(place)}
    else:
        raise VocoderError(f"{place}: neither a folder, nor .npz, nor .npy")
    n_values = _n_values(arrays.pop("n_values", np.array(256)), place)
    if arrays.keys() >= {"train", "test"}:
        train, test = (_images(arrays[name], f"{place}: {name}") for name in ("train", "test"))
        return Source(_chunks(train), _chunks(test), n_values)
    if len(arrays) != 1:
        keys = ", ".join(sorted(arrays)[:5]) or "nothing"
        raise VocoderError(f"{place}: holds {keys}; name the images `train` and `test`")
    images = _images(next(iter(arrays.values())), str(place))
    kept, held_out = split_rows(len(images), place)
    return Source(_chunks(images, kept), _chunks(images, held_out), n_values)


def _n_values(array: npt.NDArray[Any], place: Path) -> int:
    if array.shape != () or array.dtype.kind not in "iu" or not 2 <= int(array) <= 256:
        raise VocoderError(f"{place}: n_values must be one whole number from 2 to 256")
    return int(array)


def _images(array: npt.NDArray[Any], where: str) -> Pixels:
    """Return the images with channels second."""
    if array.dtype != np.uint8:
        raise VocoderError(f"{where}: holds {array.dtype}; images are uint8")
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] in (1, 3):
        return array
    if array.ndim == 4 and array.shape[3] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    raise VocoderError(
        f"{where}: has shape {array.shape}; images are (N, C, H, W), (N, H, W, C) or (N, H, W)"
    )


def _chunks(array: Pixels, rows: Sequence[int] | None = None) -> Iterator[Pixels]:
    """Read an array, or some rows of it, chunk by chunk."""
    rows = range(len(array)) if rows is None else rows
    for start in range(0, len(rows), _CHUNK):
        yield array[list(rows[start : start + _CHUNK])]
