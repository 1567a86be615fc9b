"""The files of CIFAR-10 in both of its published forms."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from image_sets import TEST, TRAIN

BATCHES = [*np.split(TRAIN, 5), TEST]
STEMS = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def binary_batch(images: np.ndarray) -> bytes:
    return b"".join(bytes([i % 10]) + image.tobytes() for i, image in enumerate(images))


def python2_pickle(images: np.ndarray, labels: list[int]) -> bytes:
    """Return a batch as Python 2 pickled the real ones: protocol 2, byte strings throughout."""

    def text(value: bytes) -> bytes:
        if len(value) < 256:
            return pickle.SHORT_BINSTRING + bytes([len(value)]) + value
        return pickle.BINSTRING + struct.pack("<i", len(value)) + value

    def number(value: int) -> bytes:
        return pickle.BININT + struct.pack("<i", value)

    rows = images.reshape(len(images), -1)
    dtype = (
        b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
        b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
        + number(0)
        + b"t"
        + text(b"b")
        + b"tR("
        + number(1)
        + b"("
        + b"".join(map(number, rows.shape))
        + b"t"
        + dtype
        + b"\x89"
        + text(rows.tobytes())
        + b"tb"
    )
    items = text(b"data") + array + text(b"labels") + b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + items + text(b"batch_label") + text(b"training batch 1 of 5") + b"u."


def modern_pickle(images: np.ndarray, protocol: int = 4) -> bytes:
    batch = {"data": images.reshape(len(images), -1), "labels": list(range(len(images)))}
    return pickle.dumps(batch, protocol=protocol)


def python_batch(images: np.ndarray) -> bytes:
    return python2_pickle(images, [i % 10 for i in range(len(images))])


VERSIONS: dict[str, tuple[str, str, Callable[[np.ndarray], bytes]]] = {
    "binary": ("bin", ".bin", binary_batch),
    "python": ("py", "", python_batch),
}


def cifar_files(version: str) -> dict[str, bytes]:
    folder, suffix, pack = VERSIONS[version]
    files = {
        f"cifar-10-batches-{folder}/{stem}{suffix}": pack(images)
        for stem, images in zip(STEMS, BATCHES, strict=True)
    }
    return {f"cifar-10-batches-{folder}/readme.html": b"CIFAR", **files}


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def with_batch(tmp_path: Path, content: bytes) -> Path:
    """Return a CIFAR-10 folder, Python version, with the test batch replaced."""
    files = cifar_files("python") | {"cifar-10-batches-py/test_batch": content}
    return write_files(tmp_path, files)
