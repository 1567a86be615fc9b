"""Image files converted once to arrays that are mapped from disk.

A prepared folder:

    images.json        what is in it, written last: a folder without one is not finished
    train.npy          uint8 (N, C, H, W)
    test.npy           uint8 (N, C, H, W)

Until then a hidden file tells that the arrays are not somebody else's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from vocoder.data.images.reader import IMAGE_SETS, ImageArrays, Inspection, Pixels
from vocoder.data.images.readers.image_folder import read_image_folder
from vocoder.data.speech.corpus import map_array
from vocoder.data.speech.journal import only_run
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path, sweep

FORMAT = "vocoder-images"
VERSION = 1
DESCRIPTION = "images.json"
ARRAYS = ("train.npy", "test.npy")
_MARKER = ".unfinished-images"
_REMEDY = "preprocess the images again"


@dataclass(frozen=True)
class PreparedImages:
    """The content of images.json."""

    name: str  # of the reader
    variant: str
    n_values: int
    train_shape: tuple[int, ...]  # (N, C, H, W)
    test_shape: tuple[int, ...]
    fingerprint: str

    def __str__(self) -> str:
        """Say in one line what there is."""
        title = f"{self.name} ({self.variant})" if self.variant else self.name
        size = "x".join(map(str, self.train_shape[1:]))
        return (
            f"{title}: {self.train_shape[0]} training and {self.test_shape[0]} test images of "
            f"{size}, {self.n_values} values"
        )


def prepare_images(
    dataset: str, source: Path, out: Path, *, side: int | None = None
) -> PreparedImages:
    """Convert image files to a prepared folder; a failed run leaves no file behind.

    Args:
        dataset: the name of a reader.
        source: the original file or folder.
        out: the folder to make, or one that a killed run has left; one that is prepared already,
            or holds such arrays of another origin, is refused.
        side: Side in pixels to which the central square of each image is scaled, for "image_folder"
            alone.

    Raises:
        VocoderError: there is no such data set, its files are not whole, or `out` is prepared or
            not this function's to write to.
    """
    if out.resolve() == source.resolve():
        raise VocoderError(f"{out}: is the source, whose files are kept; choose another folder")
    if is_prepared(out):
        raise VocoderError(f"{out}: holds prepared images already; remove it or choose another")
    if side is not None and dataset != "image_folder":
        raise VocoderError(f"side: only image_folder scales images, {dataset} has its own size")
    reader = IMAGE_SETS.find(dataset)
    images = reader(source) if side is None else read_image_folder(source, side)
    inspection = Inspection(images.n_values, str(source))
    with only_run(out), _own(out):
        with atomic_path(out / "train.npy") as train, atomic_path(out / "test.npy") as test:
            train_shape = _write_npy(train, inspection.passing(images.train, "training"))
            test_shape = _write_npy(test, inspection.passing(images.test, "test"))
        prepared = PreparedImages(
            name=dataset,
            variant=images.variant,
            n_values=images.n_values,
            train_shape=train_shape,
            test_shape=test_shape,
            fingerprint=inspection.fingerprint,
        )
        with atomic_path(out / DESCRIPTION) as path:
            values = {"format": FORMAT, "version": VERSION, **prepared.__dict__}
            path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return prepared


@contextmanager
def _own(out: Path) -> Iterator[None]:
    """Mark the arrays in a folder as a run's of this command, until it has ended.

    Raises:
        VocoderError: there are such arrays already, and no killed run has left them.
    """
    marker = out / _MARKER
    if marker.exists():
        sweep(out, (".npy", ".json"))
    elif foreign := [name for name in ARRAYS if os.path.lexists(out / name)]:
        raise VocoderError(
            f"{out}: holds a {foreign[0]} that no run of this command has left, and that would be "
            "replaced; choose another folder"
        )
    marker.touch()
    try:
        yield
    except BaseException:
        for name in ARRAYS:
            (out / name).unlink(missing_ok=True)
        raise
    finally:
        marker.unlink(missing_ok=True)


def _write_npy(path: Path, chunks: Iterable[Pixels]) -> tuple[int, ...]:
    """Write chunks (n, C, H, W) as one array whose length shows only at the end."""
    shape: tuple[int, ...] = (0,)
    with path.open("wb") as file, tqdm(unit="image", disable=None) as bar:
        for chunk in chunks:
            if shape == (0,):
                shape = (0, *chunk.shape[1:])
                _write_header(file, shape)
                start = file.tell()
            file.write(chunk.data)
            bar.update(len(chunk))
            shape = (shape[0] + len(chunk), *shape[1:])
        file.seek(0)
        _write_header(file, shape)
        assert file.tell() == start, "numpy leaves room for the first axis to grow"
    return shape


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def is_prepared(folder: Path) -> bool:
    """Tell whether `prepare_images` has finished in this folder."""
    return (folder / DESCRIPTION).is_file()


def map_prepared(dataset: str, folder: Path) -> ImageArrays:
    """Map the arrays of a prepared folder; the fingerprint is the stored one.

    Raises:
        VocoderError: the folder is of another data set, or its files are damaged.
    """
    path = folder / DESCRIPTION
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise VocoderError(f"{path}: not JSON ({error}); {_REMEDY}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise VocoderError(f"{path}: not the description of prepared images")
    if values.get("version") != VERSION:
        raise VocoderError(
            f"{path}: version {values.get('version')!r}, this vocoder reads {VERSION}; {_REMEDY}"
        )
    name = _field(values, "name", str, path)
    if name != dataset:
        raise VocoderError(f"{folder}: holds images of {name[:40]!r}, not {dataset!r}")
    n_values = _field(values, "n_values", int, path)
    if not 2 <= n_values <= 256:
        raise VocoderError(f"{path}: n_values must be 2 to 256, is {n_values}")
    train_shape, test_shape = (_shape(values, f"{s}_shape", path) for s in ("train", "test"))
    if train_shape[1:] != test_shape[1:]:
        raise VocoderError(f"{path}: train_shape and test_shape are of different images")
    return ImageArrays(
        train=map_array(folder / "train.npy", np.uint8, train_shape),
        test=map_array(folder / "test.npy", np.uint8, test_shape),
        n_values=n_values,
        variant=_field(values, "variant", str, path),
        fingerprint=_field(values, "fingerprint", str, path),
    )


def _field(values: dict[str, Any], key: str, kind: type, path: Path) -> Any:
    value = values.get(key)
    if type(value) is not kind:
        raise VocoderError(f"{path}: {key} must be {kind.__name__}, is {str(value)[:40]!r}")
    return value


def _shape(values: dict[str, Any], key: str, path: Path) -> tuple[int, ...]:
    shape = _field(values, key, list, path)
    if len(shape) != 4 or not all(type(n) is int and n > 0 for n in shape):
        raise VocoderError(f"{path}: {key} must be (N, C, H, W), is {str(shape)[:40]}")
    return tuple(shape)
