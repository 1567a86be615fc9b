"""Both down-sampled ImageNets: tiny sets come back byte for byte, and never mix."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from image_sets import Payload, check, pictures, refuse, write_pngs

from vocoder.data.images.prepared import prepare_images
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError


def write_oord(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    train, test = (pictures(n, 3, side, side, seed=n) for n in (12, 5))
    write_pngs(folder / f"train_{side}x{side}", train)
    write_pngs(folder / f"valid_{side}x{side}", test)
    return train, test


def write_chrabaszcz(folder: Path, side: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    train, test = (pictures(n, 3, side, side, seed=n) for n in (20, 5))
    names = [*(f"train_data_batch_{number}" for number in range(1, 11)), "val_data"]
    for name, images in zip(names, [*np.split(train, 10), test], strict=True):
        batch = {
            "data": images.reshape(len(images), -1),
            "labels": np.arange(1, 1 + len(images)),
            "mean": np.zeros(3 * side * side),
        }
        part = folder / ("part2" if name.endswith(("9", "10")) else "part1")
        part.mkdir(parents=True, exist_ok=True)
        if kind == "npz":
            np.savez(part / f"{name}.npz", **batch)
        else:
            batch["labels"] = batch["labels"].tolist()
            (part / name).write_bytes(pickle.dumps(batch, 3))
    return train, test


@pytest.mark.parametrize("side", [32, 64])
def test_imagenet_of_van_den_oord(tmp_path, side):
    train, test = write_oord(tmp_path, side)
    check(f"imagenet{side}", tmp_path, train, test, "oord-2016")


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("kind", ["npz", "pickle"])
def test_imagenet_of_chrabaszcz(tmp_path, side, kind):
    train, test = write_chrabaszcz(tmp_path, side, kind)
    check(f"imagenet{side}", tmp_path, train, test, "chrabaszcz-2017")


def test_a_prepared_imagenet_keeps_its_variant(tmp_path):
    train, test = write_oord(tmp_path / "raw", 32)
    prepared = prepare_images("imagenet32", tmp_path / "raw", tmp_path / "out")
    assert str(prepared).startswith("imagenet32 (oord-2016): 12 training and 5 test images")
    check("imagenet32", tmp_path / "out", train, test, "oord-2016")


def test_the_two_imagenets_never_mix(tmp_path):
    write_oord(tmp_path, 32)
    write_chrabaszcz(tmp_path, 32, "npz")
    refuse("imagenet32", tmp_path, "holds both ImageNets")


def test_the_count_of_validation_images_tells_the_imagenets_apart(tmp_path, monkeypatch):
    from vocoder.data.images.readers import imagenet

    write_oord(tmp_path / "a", 32)
    write_chrabaszcz(tmp_path / "b", 32, "npz")
    monkeypatch.setattr(imagenet, "_N_VALIDATION", {5: "chrabaszcz-2017"})
    refuse("imagenet32", tmp_path / "a", "files of oord-2016", "5 validation images of chrab")
    open_images("imagenet32", tmp_path / "b", n_validation=0, seed=0)
    with pytest.raises(VocoderError, match="files of oord-2016"):
        prepare_images("imagenet32", tmp_path / "a", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_imagenet_of_another_resolution(tmp_path):
    write_oord(tmp_path / "a", 32)
    refuse("imagenet64", tmp_path / "a", "has neither train_64x64/ nor train_data_batch_1")
    (tmp_path / "a" / "train_32x32").rename(tmp_path / "a" / "train_64x64")
    (tmp_path / "a" / "valid_32x32").rename(tmp_path / "a" / "valid_64x64")
    refuse("imagenet64", tmp_path / "a", "holds images of 32x32, not 64x64")
    write_chrabaszcz(tmp_path / "b", 32, "npz")
    refuse("imagenet64", tmp_path / "b", "train_data_batch_1.npz", "shape (2, 3072)")


def test_an_incomplete_imagenet(tmp_path):
    write_chrabaszcz(tmp_path, 32, "npz")
    batch = tmp_path / "part1" / "train_data_batch_7.npz"
    content = batch.read_bytes()
    batch.unlink()
    refuse("imagenet32", tmp_path, "train_data_batch_7 is missing")
    (tmp_path / "part2" / batch.name).write_bytes(content[: len(content) // 2])
    refuse("imagenet32", tmp_path, "train_data_batch_7.npz: not readable")
    batch.write_bytes(content)
    refuse("imagenet32", tmp_path, "train_data_batch_7.npz", "is there twice")


def test_labels_of_object_type(tmp_path):
    _, test = write_chrabaszcz(tmp_path, 32, "npz")
    trace = tmp_path / "trace"
    labels = np.array([Payload(os.mkdir, str(trace)), 2, 3, 4, 5], object)
    np.savez(tmp_path / "part1" / "val_data.npz", data=test.reshape(5, -1), labels=labels)
    refuse("imagenet32", tmp_path, "val_data.npz: not readable as plain arrays", "Object arrays")
    assert not trace.exists()
