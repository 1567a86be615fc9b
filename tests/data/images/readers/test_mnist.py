"""MNIST: tiny files in the real format come back byte for byte, damage in one line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import check, pictures, refuse

from vocoder.data.images.readers.mnist import read_idx
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError


def idx(images: np.ndarray) -> bytes:
    """Return the idx file of images (N, H, W)."""
    return struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()


def write_mnist(folder: Path, train: bytes, test: bytes, suffix: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in (("train", train), ("t10k", test)):
        packed = gzip.compress(content) if suffix else content
        (folder / f"{split}-images-idx3-ubyte{suffix}").write_bytes(packed)
    return folder


GREY_TRAIN, GREY_TEST = pictures(20, 1, 28, 28), pictures(6, 1, 28, 28, 1)
IDX_TRAIN, IDX_TEST = idx(GREY_TRAIN[:, 0]), idx(GREY_TEST[:, 0])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inner", ["", "MNIST/raw"])
def test_mnist(tmp_path, suffix, inner):
    write_mnist(tmp_path / inner, IDX_TRAIN, IDX_TEST, suffix)
    check("mnist", tmp_path, GREY_TRAIN, GREY_TEST)


def test_mnist_padded_to_32(tmp_path):
    write_mnist(tmp_path, IDX_TRAIN, IDX_TEST)
    opened = open_images("mnist", tmp_path, n_validation=0, seed=0, side=32)
    assert opened.image_shape == (1, 32, 32)
    np.testing.assert_array_equal(opened.train[:][:, :, 2:30, 2:30], GREY_TRAIN)


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)), packed=st.booleans()
)
@settings(deadline=None, max_examples=30)
def test_idx_of_any_shape(tmp_path_factory, shape, packed):
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(idx(images)) if packed else idx(images))
    np.testing.assert_array_equal(read_idx(path), images)


@given(content=st.binary(max_size=64), mark=st.booleans(), packed=st.booleans())
@settings(deadline=None, max_examples=60)
def test_idx_of_any_bytes_is_read_or_refused(tmp_path_factory, content, mark, packed):
    content = (b"\0\0\x08\x03" if mark else b"") + content
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if packed else "a")
    path.write_bytes(content)
    try:
        images = read_idx(path)
    except VocoderError as error:
        assert "\n" not in str(error)
    else:
        assert idx(images) == content


BAD_IDX = {
    "truncated": (IDX_TRAIN[:-1], "holds only 15679"),
    "too long": (IDX_TRAIN + b"\0", "holds more"),
    "labels": (struct.pack(">4BI", 0, 0, 8, 1, 20) + bytes(20), "begins with 00000801"),
    "floats": (b"\0\0\x0d\x03" + IDX_TRAIN[4:], "begins with 00000d03"),
    "empty": (b"", "begins with nothing"),
    "head alone": (IDX_TRAIN[:9], "begins with 00000803"),
    "huge": (b"\0\0\x08\x03" + b"\xff" * 12, "claims (4294967295, 4294967295, 4294967295)"),
    "no images": (idx(GREY_TRAIN[:0, 0]), "claims (0, 28, 28)"),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("damage", BAD_IDX)
def test_damaged_idx(tmp_path, damage, suffix):
    content, words = BAD_IDX[damage]
    write_mnist(tmp_path, content, IDX_TEST, suffix)
    refuse("mnist", tmp_path, "train-images-idx3-ubyte", words)


@pytest.mark.parametrize("keep", [2, 9, 200, -5])
def test_truncated_gzip(tmp_path, keep):
    write_mnist(tmp_path, IDX_TRAIN, IDX_TEST)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    refuse("mnist", tmp_path, "t10k-images-idx3-ubyte.gz: damaged")


def test_corrupt_gzip(tmp_path):
    write_mnist(tmp_path, IDX_TRAIN, IDX_TEST)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    refuse("mnist", tmp_path, "t10k-images-idx3-ubyte.gz: damaged")


def test_training_and_test_of_different_sizes(tmp_path):
    write_mnist(tmp_path, IDX_TRAIN, idx(GREY_TEST[:, 0, :8]))
    refuse("mnist", tmp_path, "test images of 1x8x28 after others of 1x28x28")
