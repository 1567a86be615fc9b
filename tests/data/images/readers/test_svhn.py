"""SVHN: a tiny set in the real format comes back byte for byte, damage in one line."""

from __future__ import annotations

import numpy as np
import pytest
from image_sets import TEST, TRAIN, check, refuse


def test_svhn(tmp_path):
    from scipy.io import savemat

    for split, images in (("train", TRAIN), ("test", TEST)):
        values = {"X": images.transpose(2, 3, 1, 0), "y": np.zeros((len(images), 1))}
        savemat(tmp_path / f"{split}_32x32.mat", values, do_compression=True)
    check("svhn", tmp_path)
    path = tmp_path / "test_32x32.mat"
    savemat(path, {"X": TEST[0].transpose(1, 2, 0)})  # as MATLAB saves a single image
    check("svhn", tmp_path, test=TEST[:1])
    path.write_bytes(path.read_bytes()[:-100])
    refuse("svhn", tmp_path, "test_32x32.mat: not a readable MATLAB file")
    path.write_bytes(b"")
    refuse("svhn", tmp_path, "test_32x32.mat: not a readable MATLAB file")
    savemat(path, {"X": np.zeros((32, 32, 3, 4))})
    refuse("svhn", tmp_path, "X must be uint8 (32, 32, 3, N), is float64 (32, 32, 3, 4)")
    savemat(path, {"y": np.zeros(3)})
    refuse("svhn", tmp_path, "is nothing")
    path.unlink()
    refuse("svhn", tmp_path, "test_32x32.mat: no such file")


@pytest.mark.parametrize("error", [IndexError("out of range"), KeyError("x"), MemoryError()])
def test_whatever_scipy_raises_names_the_file(tmp_path, monkeypatch, error):
    import scipy.io

    def fail(*arguments, **settings):
        raise error

    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB")
    monkeypatch.setattr(scipy.io, "loadmat", fail)
    refuse("svhn", tmp_path, "train_32x32.mat: not a readable MATLAB file")
