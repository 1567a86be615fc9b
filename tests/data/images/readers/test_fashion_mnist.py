"""Fashion-MNIST: MNIST's files by another name, found where Debian puts them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from image_sets import check, pictures

from vocoder.data.images.readers import fashion_mnist
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError

TRAIN, TEST = pictures(20, 1, 28, 28), pictures(6, 1, 28, 28, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, images in (("train", TRAIN), ("t10k", TEST)):
        content = struct.pack(">4B3I", 0, 0, 8, 3, len(images), 28, 28) + images.tobytes()
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    return tmp_path


def test_a_folder_is_read_under_its_own_name(folder):
    check("fashion-mnist", folder, TRAIN, TEST)


def test_without_a_path_it_is_found_where_debian_puts_it(folder, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", folder)
    check("fashion-mnist", None, TRAIN, TEST)


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    with pytest.raises(VocoderError, match=r"nowhere; run `apt install .*\(--data\)$") as caught:
        open_images("fashion-mnist", n_validation=0, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="needs the Debian package dataset-fashion-mnist"
)
def test_the_package_is_the_published_set():
    opened = open_images("fashion-mnist", n_validation=0, seed=0)
    assert opened.train.shape == (60_000, 1, 28, 28)
    assert opened.test.shape == (10_000, 1, 28, 28)
    # The mean that its authors' and everybody's pipelines normalise by.
    assert np.mean(opened.train.array) / 255 == pytest.approx(0.2860, abs=5e-5)
