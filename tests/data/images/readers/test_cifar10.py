"""CIFAR-10: tiny archives in both real formats come back byte for byte, damage in one line."""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from cifar10_files import (
    VERSIONS,
    cifar_files,
    python_batch,
    with_batch,
    write_files,
)
from image_sets import TEST, check, refuse


def write_tar(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for member in others:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_cifar10_wherever_it_lies(tmp_path, version):
    files = cifar_files(version)
    name = f"cifar-10-{version}.tar.gz"
    check("cifar10", write_tar(tmp_path / name, files))
    check("cifar10", write_tar(tmp_path / "renamed.tar", files))
    check("cifar10", tmp_path)  # which holds the tar
    unpacked = write_files(tmp_path / "unpacked", files)
    check("cifar10", unpacked)
    check("cifar10", unpacked / f"cifar-10-batches-{VERSIONS[version][0]}")


def test_the_batches_of_python_2_are_what_pickle_takes_them_for():
    loaded = pickle.loads(python_batch(TEST), encoding="bytes")
    np.testing.assert_array_equal(loaded[b"data"], TEST.reshape(6, -1))
    assert loaded[b"labels"] == list(range(6))


def test_nothing_is_unpacked_to_disk(tmp_path):
    check("cifar10", write_tar(tmp_path / "a.tar.gz", cifar_files("binary")))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_members_may_come_in_any_order(tmp_path):
    files = cifar_files("binary")
    check("cifar10", write_tar(tmp_path / "a.tar", dict(reversed(files.items()))))
    dotted = {f"./{name}": content for name, content in files.items()}
    check("cifar10", write_tar(tmp_path / "b.tar", dotted))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE_MEMBERS = {
    "../escape.bin": (tarfile.TarInfo("../escape.bin"), "leaves its folder"),
    "inner": (tarfile.TarInfo("cifar-10-batches-bin/../../data_batch_1.bin"), "leaves its folder"),
    "absolute": (tarfile.TarInfo("/tmp/data_batch_1.bin"), "leaves its folder"),
    "symlink": (link("cifar-10-batches-bin/data_batch_1.bin", "/etc/passwd"), "is a link"),
    "hardlink": (link("a", "/etc/passwd", tarfile.LNKTYPE), "is a link"),
    "device": (link("a", "", tarfile.CHRTYPE), "is a link or device"),
}


@pytest.mark.parametrize("hostile", HOSTILE_MEMBERS)
def test_hostile_tar_members(tmp_path, hostile):
    member, words = HOSTILE_MEMBERS[hostile]
    path = write_tar(tmp_path / "a.tar.gz", cifar_files("binary"), member)
    refuse("cifar10", path, "a.tar.gz: member", words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("keep", [0, 5, 0.3, 0.9])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_truncated_tar(tmp_path, keep, suffix):
    path = write_tar(tmp_path / f"a{suffix}", cifar_files("binary"))
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    refuse("cifar10", path, f"a{suffix}: ")


def test_damaged_xz(tmp_path):
    content = bytearray(lzma.compress(bytes(10_000)))
    content[30] ^= 0xFF
    (tmp_path / "a.tar.xz").write_bytes(content)
    refuse("cifar10", tmp_path / "a.tar.xz", "a.tar.xz: not a whole tar")


def test_records_of_another_size(tmp_path):
    files = cifar_files("binary")
    files["cifar-10-batches-bin/data_batch_3.bin"] += b"\0"
    refuse("cifar10", write_tar(tmp_path / "a.tar", files), "data_batch_3.bin: 12293 bytes", "3073")
    files["cifar-10-batches-bin/data_batch_3.bin"] = b""
    refuse("cifar10", write_tar(tmp_path / "b.tar", files), "data_batch_3.bin: 0 bytes")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_batch(tmp_path, version):
    folder, suffix, _ = VERSIONS[version]
    files = cifar_files(version)
    del files[f"cifar-10-batches-{folder}/data_batch_4{suffix}"]
    refuse("cifar10", write_tar(tmp_path / "a.tar", files), f"data_batch_4{suffix} is missing")


BAD_BATCHES = {
    "objects": (
        {"data": TEST.reshape(6, -1), "labels": np.array([1, None, 2, 3, 4, 5], object)},
        "an array of something else than numbers",
    ),
    "ragged labels": ({"data": TEST.reshape(6, -1), "labels": [[1], [1, 2], 3, 4, 5, 6]}, "labels"),
    "text labels": ({"data": TEST.reshape(6, -1), "labels": list("abcdef")}, "6 whole numbers"),
    "true labels": ({"data": TEST.reshape(6, -1), "labels": [True] * 6}, "6 whole numbers"),
    "few labels": ({"data": TEST.reshape(6, -1), "labels": [1, 2]}, "6 whole numbers"),
    "floats": ({"data": TEST.reshape(6, -1).astype("f4")}, "uint8 array, is float32"),
    "no data": ({"labels": [1]}, "uint8 array, is NoneType"),
    "other size": ({"data": np.zeros((4, 3 * 64 * 64), np.uint8)}, "has shape (4, 12288)"),
    "no rows": ({"data": TEST.reshape(6, -1)[:0]}, "has shape (0, 3072)"),
    "a list": ([1, 2], "holds a list, not a dictionary"),
}


@pytest.mark.parametrize("damage", BAD_BATCHES)
def test_damaged_batches(tmp_path, damage):
    batch, words = BAD_BATCHES[damage]
    refuse("cifar10", with_batch(tmp_path, pickle.dumps(batch, 4)), "test_batch: ", words)


def test_nested_labels_are_not_unfolded(tmp_path):
    """Ten lists that share their items stand for 6¹⁰ numbers in a hundred bytes."""
    labels = [0] * 6
    for _ in range(9):
        labels = [labels] * 6
    content = pickle.dumps({"data": TEST.reshape(6, -1), "labels": labels}, 4)
    refuse("cifar10", with_batch(tmp_path, content), "6 whole numbers")
