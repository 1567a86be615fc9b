"""Arrays out of NumPy's files, without ever unpickling or trusting a size that a file claims."""

from __future__ import annotations

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError, reason

_PIECE = 1 << 20  # bytes read at once, so that a false size costs no memory
_MOST_DEFLATED = 1100  # bytes that deflate makes of one, at most, and a little


def load_npy(path: Path) -> npt.NDArray[Any]:
    """Map an .npy file.

    Raises:
        VocoderError: It is missing, damaged, holds objects or more than one array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise VocoderError(f"{path}: no such file") from None
    # The header is parsed as Python, and zip has ways of its own: damage shows as anything at all.
    except Exception as error:
        raise _unreadable(path, error) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise VocoderError(f"{path}: an archive, and belongs in an .npz")
    if isinstance(array, np.memmap) and array.offset + array.nbytes < path.stat().st_size:
        raise VocoderError(f"{path}: holds more than its array; save each array alone")
    return array


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return what precedes the bytes of a contiguous array in an .npy file.

    `numpy.save` would write both, but loses the reason on a full disk.
    """
    header = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


def load_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an .npz file.

    Raises:
        VocoderError: It is missing or damaged, or any of them holds objects.
    """
    try:
        with open(path, "rb") as file:
            return read_npz(file)
    except FileNotFoundError:
        raise VocoderError(f"{path}: no such file") from None
    except Exception as error:
        raise _unreadable(path, error) from None


def read_npz(file: BinaryIO, most_bytes: int | None = None) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an open .npz file.

    Args:
        file: Seekable file that is open for reading.
        most_bytes: Bytes that all arrays together may have; None is what the file can hold.

    Raises:
        Exception: Of any kind, from a file that is damaged.
    """
    start = file.read(8)
    file.seek(0)
    if start[:6] == np.lib.format.MAGIC_PREFIX:
        raise ValueError("a single array, and belongs in an .npy")
    length = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_zip(members, length, most_bytes)
        arrays = {}
        for member in members:
            with archive.open(member) as content:
                name = member.filename.removesuffix(".npy")
                arrays[name] = read_array(cast(BinaryIO, content), member.file_size)
        return arrays


def check_zip(members: list[zipfile.ZipInfo], length: int, most_bytes: int | None = None) -> None:
    """Refuse an archive whose members claim more than its length can hold.

    Args:
        members: Members of the archive.
        length: Bytes of the archive.
        most_bytes: Bytes that the members may unpack to; None is what deflate can make of
            `length`.

    Raises:
        ValueError: They do, or are packed in another way than numpy's.
    """
    if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
        raise ValueError("packed otherwise than numpy packs")
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    if packed > length or unpacked > _MOST_DEFLATED * packed:
        raise ValueError(f"it claims {unpacked} bytes in an archive of {length}")
    if most_bytes is not None and unpacked > most_bytes:
        raise ValueError(f"unpacks to more than {most_bytes >> 30} GiB")


def read_array(stream: BinaryIO, most_bytes: int, magic: bytes = b"") -> npt.NDArray[Any]:
    """Read one .npy array, and not a byte more.

    Args:
        stream: Stream to read from, which need not be seekable.
        most_bytes: Bytes that the array may have; what claims more is refused before it gets
            memory.
        magic: The first eight bytes, where they have been read.

    Raises:
        Exception: Of any kind, from a stream that is damaged.
    """
    npy = np.lib.format
    magic = magic or bytes(read_exactly(stream, npy.MAGIC_LEN))
    if magic[:6] != npy.MAGIC_PREFIX:
        raise ValueError("does not begin as an .npy array")
    if magic[6:] not in (b"\1\0", b"\2\0"):
        raise ValueError("of a version of .npy that numbers do not need")
    read = npy.read_array_header_1_0 if magic[6] == 1 else npy.read_array_header_2_0
    shape, columns_first, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > most_bytes or any(length < 0 for length in shape):
        raise ValueError(f"{dtype} of shape {shape}, more than there can be")
    content = read_exactly(stream, n_bytes)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")


def read_exactly(stream: BinaryIO, n_bytes: int) -> bytearray:
    """Read so many bytes, asking for memory as they come.

    Raises:
        ValueError: The stream ends before.
    """
    content = bytearray()
    while len(content) < n_bytes:
        piece = stream.read(min(_PIECE, n_bytes - len(content)))
        if not piece:
            lack = n_bytes - len(content)
            raise ValueError(f"truncated, {lack} of {n_bytes} bytes are missing")
        content += piece
    return content


def _unreadable(path: Path, error: Exception) -> VocoderError:
    return VocoderError(f"{path}: not readable as plain arrays ({reason(error)})")
