"""Image readers: tiny files in the real formats come back byte for byte, damage in one line."""

from __future__ import annotations

import builtins
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vocoder.data.images.prepared import prepare_images
from vocoder.data.images.reader import IMAGE_SETS
from vocoder.data.images.readers import image_folder
from vocoder.data.images.readers.mnist import read_idx
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError
from vocoder.files.pickles import load_arrays


def pictures(n: int, channels: int = 3, height: int = 32, width: int = 32, seed: int = 0):
    """Return random images (N, C, H, W) with coloured corners, which no other order of axes has."""
    shape = (n, channels, height, width)
    images = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    if channels == 3:
        images[:, :, 0, 0] = (255, 0, 0)  # top left is red
        images[:, :, 0, -1] = (0, 255, 0)  # top right is green
        images[:, :, -1, 0] = (0, 0, 255)  # bottom left is blue
    return images


TRAIN, TEST = pictures(20), pictures(6, seed=1)


def check(dataset: str, path: Path | None, train=TRAIN, test=TEST, variant: str = "") -> None:
    """Check that a data set opens with exactly these images, in any order where it is random."""
    opened = open_images(dataset, path, n_validation=0, seed=0)
    np.testing.assert_array_equal(opened.train[:], train)
    np.testing.assert_array_equal(opened.test[:], test)
    assert (opened.name, opened.variant, opened.n_values) == (dataset, variant, 256)


def refuse(dataset: str, path: Path, *words: str) -> None:
    """Check that a data set is refused in one line with these words."""
    with pytest.raises(VocoderError) as caught:
        open_images(dataset, path, n_validation=0, seed=0)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_names():
    assert IMAGE_SETS.names() == [
        "arrays",
        "cifar10",
        "digits",
        "image_folder",
        "imagenet32",
        "imagenet64",
        "mnist",
        "svhn",
    ]


@pytest.mark.parametrize("name", [name for name in IMAGE_SETS.names() if name != "digits"])
def test_a_missing_path_is_named(name, tmp_path):
    with pytest.raises(VocoderError, match="needs the file or folder"):
        open_images(name, n_validation=0, seed=0)
    refuse(name, tmp_path / "nothing", "nothing: no such file or folder")
    refuse(name, tmp_path)


def test_digits_need_no_path(tmp_path):
    refuse("digits", tmp_path, "leave the path out")


# ---- MNIST ----


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


# ---- CIFAR-10 ----

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


def write_tar(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for member in others:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


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


def with_batch(tmp_path: Path, content: bytes) -> Path:
    """Return a CIFAR-10 folder, Python version, with the test batch replaced."""
    files = cifar_files("python") | {"cifar-10-batches-py/test_batch": content}
    return write_files(tmp_path, files)


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


# ---- pickles ----


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">i2", "<i8", "f4", "?"])
def test_arrays_come_back_from_every_protocol(protocol, order, dtype):
    array = np.asarray(np.arange(12).reshape(3, 4), dtype, order)
    loaded = load_arrays(pickle.dumps({"a": array, "n": [1, "x"]}, protocol), "a")
    np.testing.assert_array_equal(loaded["a"], array)
    assert loaded["a"].dtype == array.dtype
    assert loaded["n"] == [1, "x"]


def test_the_old_and_the_new_name_of_numpys_core():
    content = pickle.dumps({"a": np.arange(3)}, 2)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert (new in content) or (old in content)
    for name in (new, old):
        loaded = load_arrays(content.replace(new, old).replace(old, name), "a")
        np.testing.assert_array_equal(loaded["a"], np.arange(3))


class Payload:
    """Pickles into a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.exec, os.mkdir])
def test_a_hostile_pickle_is_not_run(tmp_path, protocol, function):
    trace = tmp_path / "trace"
    argument = {
        os.system: f"touch {trace}",
        os.mkdir: str(trace),
    }.get(function, f"__import__('os').mkdir({str(trace)!r})")
    content = pickle.dumps({"data": Payload(function, argument)}, protocol)
    folder = with_batch(tmp_path / "cifar", content)
    refuse("cifar10", folder, "test_batch: not a pickle of plain arrays (it names ", ".")
    assert not trace.exists()
    pickle.loads(content)  # the payload does work
    assert trace.exists()


HOSTILE_PICKLES = {
    "getattr": b"cbuiltins\ngetattr\n.",
    "a submodule of numpy": b"cnumpy.testing._private.utils\nrunstring\n.",
    "numpy's loader": b"cnumpy\nload\n.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.dot\x93.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pos\n.",
    "the state of a name": b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
    "a class of a name": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "an old instance": b"(inumpy\nndarray\n.",
    "a large memo": b"N" + b"r\xff\xff\xff\x7f" + b".",
    "a large memo in text": b"Np2000000000\n.",
    "a large string": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a buffer of protocol 5": pickle.dumps({"a": np.arange(3)}, 5),
    "an encoder": b"c_codecs\nencode\n(Va\nVzip\ntR.",
    "nothing": b"",
    "no stop": b"}",
    "an empty stack": b".",
    "deep": b"(" * 100_000 + b"t" * 100_000 + b".",
}


@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_hostile_pickles(name):
    with pytest.raises(VocoderError, match=r"\Aa: not a pickle of plain arrays [^\n]*\Z"):
        load_arrays(HOSTILE_PICKLES[name], "a")


@pytest.mark.parametrize("code", ["O", "V8", "i4,O", "i4,f8", "S3", "U1", "M8[s]", "c8", "i999"])
def test_arrays_of_anything_but_numbers_are_refused(code):
    content = pickle.dumps({"a": np.arange(3, dtype="i8")}, 2)
    text = code.encode()
    marked = content.replace(b"X\x02\x00\x00\x00i8", b"X" + struct.pack("<I", len(text)) + text)
    assert marked != content
    with pytest.raises(VocoderError, match="not a pickle of plain arrays"):
        load_arrays(marked, "a")


PLAIN = modern_pickle(TEST[:1])


@given(place=st.integers(0, 400), value=st.integers(0, 255))
@settings(deadline=None, max_examples=200)
def test_any_damage_is_read_or_refused(place, value):
    damaged = bytearray(PLAIN)
    damaged[place if place < 200 else -(place - 199)] = value
    try:
        load_arrays(bytes(damaged), "a")
    except VocoderError as error:
        assert "\n" not in str(error)


# ---- ImageNet ----


def write_pngs(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images, start=1):
        pixels = image.transpose(1, 2, 0)
        Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels).save(
            folder / f"{number}.png"
        )


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


# ---- SVHN ----


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


# ---- folders of pictures ----


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_with_splits(tmp_path, channels):
    train, test = (pictures(n, channels, 6, 9) for n in (12, 3))
    write_pngs(tmp_path / "train" / "some" / "class", train)
    write_pngs(tmp_path / "test", test)
    (tmp_path / "train" / "notes.txt").write_text("not a picture")
    (tmp_path / "train" / "._1.png").write_bytes(b"what macOS leaves behind")
    check("image_folder", tmp_path, train, test)  # 10.png after 9.png


def test_a_folder_without_splits_has_a_tenth_drawn(tmp_path):
    images = pictures(11, 3, 5, 5)
    write_pngs(tmp_path / "some", images)
    opened = [open_images("image_folder", tmp_path, n_validation=2, seed=s) for s in (0, 1)]
    assert (len(opened[0].train), len(opened[0].validation), len(opened[0].test)) == (7, 2, 2)
    np.testing.assert_array_equal(opened[0].test[:], opened[1].test[:])
    found = np.concatenate([opened[0].train[:], opened[0].validation[:], opened[0].test[:]])
    assert sorted(i.tobytes() for i in found) == sorted(i.tobytes() for i in images)


def test_the_first_picture_says_whether_all_are_grey(tmp_path):
    grey, colour = pictures(1, 1, 4, 4)[0], pictures(1, 3, 4, 4)[0]
    write_pngs(tmp_path / "train", np.stack([grey]))
    write_pngs(tmp_path / "test", np.stack([colour]))
    assert open_images("image_folder", tmp_path, n_validation=0, seed=0).image_shape == (1, 4, 4)
    (tmp_path / "train" / "1.png").rename(tmp_path / "train" / "2.png")
    Image.new("RGBA", (4, 4), (1, 2, 3, 0)).save(tmp_path / "train" / "1.png")
    opened = open_images("image_folder", tmp_path, n_validation=0, seed=0)
    np.testing.assert_array_equal(opened.train[:][0, :, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(opened.train[:][1], grey.repeat(3, axis=0))


def test_pictures_of_many_sizes_are_cropped_and_scaled(tmp_path):
    # 4 rows of 10: the central square is columns 3 to 6, and its four quarters have one colour.
    image = np.zeros((3, 4, 10), np.uint8)
    colours = np.array([[[255, 0], [0, 9]], [[0, 255], [0, 9]], [[0, 0], [255, 9]]])
    image[:, :, 3:7] = colours.repeat(2, axis=1).repeat(2, axis=2)
    write_pngs(tmp_path / "raw" / "wide", np.stack([image]))
    write_pngs(tmp_path / "raw" / "large", np.zeros((1, 3, 20, 20), np.uint8))
    refuse("image_folder", tmp_path / "raw")
    prepared = prepare_images("image_folder", tmp_path / "raw", tmp_path / "out", side=2)
    assert prepared.train_shape == (1, 3, 2, 2)
    opened = open_images("image_folder", tmp_path / "out", n_validation=0, seed=0)
    found = np.concatenate([opened.train[:], opened.test[:]])
    assert sorted(i.tolist() for i in found) == sorted([colours.tolist(), [[[0] * 2] * 2] * 3])


def test_bad_pictures(tmp_path):
    write_pngs(tmp_path / "train", pictures(3))
    write_pngs(tmp_path / "test", pictures(3))
    path = tmp_path / "train" / "2.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refuse("image_folder", tmp_path, "2.png: not a readable picture")
    path.write_bytes(b"")
    refuse("image_folder", tmp_path, "2.png: not a readable picture")
    Image.new("RGB", (31, 32)).save(path)
    refuse("image_folder", tmp_path, "2.png: has 31x32 pixels, 1.png 32x32", "--side")
    Image.fromarray(np.zeros((32, 32), np.float32)).save(tmp_path / "2.tif")
    with pytest.raises(VocoderError, match=r"2\.tif: holds floats"):
        list(image_folder.decode([tmp_path / "2.tif"], "L"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_of_16_bits_keep_the_upper_8(tmp_path, suffix):
    values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369
    paths = [tmp_path / f"{number}.{suffix}" for number in range(2)]
    for path in paths:
        Image.fromarray(values).save(path)
    assert image_folder.list_pictures(tmp_path) == paths
    (pixels,) = image_folder.decode(paths, "L")
    assert (pixels == (values >> 8).astype(np.uint8)).all()


def test_folders_without_pictures(tmp_path):
    refuse("image_folder", tmp_path, "holds no pictures")
    write_pngs(tmp_path / "one", pictures(1))
    refuse("image_folder", tmp_path, "has 1 images; at least 2")


def test_only_a_folder_of_pictures_is_scaled(tmp_path):
    with pytest.raises(VocoderError, match="only image_folder scales images"):
        prepare_images("mnist", tmp_path, tmp_path / "out", side=8)
    with pytest.raises(VocoderError, match="side: must be positive"):
        prepare_images("image_folder", tmp_path, tmp_path / "out", side=0)
    assert not (tmp_path / "out").exists()


# ---- arrays ----


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
