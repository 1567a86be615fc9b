"""Arrays of images in every layout, and damage in one line."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import check, pictures, refuse

from vocoder.data.images.sets import open_images


@pytest.mark.parametrize("layout", ["channels first", "channels last", "grey"])
def test_arrays_in_every_layout(tmp_path, layout):
    channels = 1 if layout == "grey" else 3
    train, test = (pictures(n, channels, 5, 7) for n in (8, 3))
    saved = {
        "channels first": (train, test),
        "channels last": (train.transpose(0, 2, 3, 1), test.transpose(0, 2, 3, 1)),
        "grey": (train[:, 0], test[:, 0]),
    }[layout]
    np.savez(tmp_path / "a.npz", train=saved[0], test=saved[1])
    check("arrays", tmp_path / "a.npz", train, test)
    np.save(tmp_path / "train.npy", saved[0])
    np.save(tmp_path / "test.npy", saved[1])
    check("arrays", tmp_path, train, test)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_one_array_has_a_tenth_drawn(tmp_path, suffix):
    images = pictures(15, 1, 3, 3)
    path = tmp_path / f"a{suffix}"
    np.save(path, images) if suffix == ".npy" else np.savez(path, digits=images)
    opened = open_images("arrays", path, n_validation=0, seed=0)
    assert (len(opened.train), len(opened.test)) == (13, 2)
    found = np.concatenate([opened.train[:], opened.test[:]])
    assert sorted(i.tobytes() for i in found) == sorted(i.tobytes() for i in images)


def test_arrays_with_fewer_values(tmp_path):
    images = pictures(4, 1, 3, 3) % 17
    images[0, 0, 0, 0] = 16
    np.savez(tmp_path / "a.npz", train=images, test=images, n_values=17)
    assert open_images("arrays", tmp_path / "a.npz", n_validation=0, seed=0).n_values == 17
    np.savez(tmp_path / "b.npz", train=images, test=images, n_values=16)
    refuse("arrays", tmp_path / "b.npz", "value 16 in a training image, and 16 values end at 15")


IMAGES = pictures(4, 3, 5, 5)
BAD_ARRAYS = {
    "floats": ({"a": IMAGES / 255}, "holds float64; images are uint8"),
    "two axes": ({"a": IMAGES[:, 0, 0]}, "has shape (4, 5)"),
    "four channels": ({"a": np.zeros((2, 4, 5, 5), np.uint8)}, "has shape (2, 4, 5, 5)"),
    "two arrays": ({"a": IMAGES, "b": IMAGES}, "holds a, b; name the images"),
    "nothing": ({}, "holds nothing"),
    "objects": ({"a": np.array([None])}, "not readable as plain arrays"),
    "too many values": ({"a": IMAGES, "n_values": 257}, "n_values must be"),
    "values of text": ({"a": IMAGES, "n_values": "x"}, "n_values must be"),
    "one image": ({"a": IMAGES[:1]}, "has 1 images"),
    "other test": ({"train": IMAGES, "test": IMAGES[:, :, :4]}, "test images of 3x4x5 after"),
}


@pytest.mark.parametrize("damage", BAD_ARRAYS)
def test_bad_arrays(tmp_path, damage):
    arrays, words = BAD_ARRAYS[damage]
    np.savez(tmp_path / "a.npz", **arrays)
    refuse("arrays", tmp_path / "a.npz", words)


@given(
    content=st.binary(max_size=40), magic=st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\3\4"])
)
@settings(deadline=None, max_examples=60)
def test_array_files_of_any_bytes_are_refused(tmp_path_factory, content, magic):
    for suffix in (".npy", ".npz"):
        path = tmp_path_factory.mktemp("arrays") / f"a{suffix}"
        path.write_bytes(magic + content)
        refuse("arrays", path)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'shape': (",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1" + "0" * 30 + ",)}",
        "{'descr': (), 'fortran_order': False, 'shape': ()}",
    ],
)
def test_damaged_headers(tmp_path, header):
    (tmp_path / "a.npy").write_bytes(npy(header))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy(header))
    for name in ("a.npy", "a.npz"):
        refuse("arrays", tmp_path / name, f"{name}: not readable as plain arrays")


def test_array_files_by_the_wrong_name(tmp_path):
    np.savez(tmp_path / "a.npz", a=IMAGES)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    refuse("arrays", tmp_path / "a.npy", "belongs in an .npz")
    np.save(tmp_path / "b.npy", IMAGES)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    refuse("arrays", tmp_path / "b.npz", "belongs in an .npy")
    (tmp_path / "c.txt").write_text("x")
    refuse("arrays", tmp_path / "c.txt", "neither a folder, nor .npz, nor .npy")


def test_an_encrypted_member(tmp_path):
    np.savez(tmp_path / "a.npz", a=IMAGES)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        directory = archive.start_dir
    content[6] |= 1
    content[directory + 8] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    refuse("arrays", tmp_path / "a.npz", "not readable as plain arrays")
