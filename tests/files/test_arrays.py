"""Damaged and hostile arrays: the project's own error, and no memory for what is not there."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocoder.errors import VocoderError
from vocoder.files.arrays import load_npy, load_npz, read_array


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(7, np.int64),
        np.zeros((0, 5), np.uint8),
        np.array("text"),
    ],
    ids=["rows", "columns", "scalar", "empty", "text"],
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray) -> None:
    content = npy(array)
    after = io.BytesIO(content + b"next")
    np.testing.assert_array_equal(read_array(after, len(content)), array)
    assert after.read() == b"next", "not a byte more"
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", one=array, two=array)
        loaded = load_npz(tmp_path / "a.npz")
        assert list(loaded) == ["one", "two"]
        np.testing.assert_array_equal(loaded["two"], array)


def claiming(shape: tuple[int, ...]) -> bytes:
    """Return a small .npy file whose header claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + bytes(100)


@pytest.mark.parametrize("shape", [(2**28,), (2**40,), (2**62, 2**62), (-1,), (-4, -4)])
def test_what_a_header_claims_gets_no_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = claiming(shape)
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mel.npy", content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"claim|shape"):
            read_array(io.BytesIO(content), len(content))
        with pytest.raises(ValueError, match=r"truncated|shape"):
            read_array(io.BytesIO(content), 2**31)  # of a pipe, whose length is not known
        with pytest.raises(VocoderError, match=r"a\.npz: not readable"):
            load_npz(tmp_path / "a.npz")
        with pytest.raises(VocoderError, match=r"a\.npy: not readable"):
            load_npy(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_an_archive_that_unpacks_to_more_than_it_can_hold(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", mel=np.zeros(1000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (0x7F000000).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(VocoderError, match=r"a\.npz: .*it claims 2130706432 bytes"):
        load_npz(tmp_path / "a.npz")


@given(st.binary(max_size=60), st.integers(0, 400), st.booleans())
def test_any_bytes_give_arrays_or_an_error_with_the_name(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, position: int, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / ("a.npz" if packed else "a.npy")
    with open(path, "wb") as file:
        if packed:
            np.savez_compressed(file, mel=np.arange(20.0))
        else:
            np.save(file, np.arange(20.0))
    content = path.read_bytes()
    path.write_bytes(content[:position] + noise + content[position + len(noise) :])
    try:
        load_npz(path) if packed else load_npy(path)
    except VocoderError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), ()])
def test_nothing_behind_a_mapped_array_is_dropped(tmp_path, shape):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(shape))
    assert load_npy(path).shape == shape
    with path.open("ab") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(VocoderError, match=r"a\.npy: holds more than its array; save each"):
        load_npy(path)
