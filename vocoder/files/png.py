"""PNG files from arrays of pixels."""

from __future__ import annotations

import struct
import zlib
from os import PathLike

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path


def write_png(path: str | PathLike[str], pixels: npt.NDArray[np.uint8]) -> None:
    """Write a picture, whole or not at all.

    Args:
        path: Path of the PNG file.
        pixels: red, green and blue, (H, W, 3).

    Raises:
        VocoderError: these are not such pixels.
        OSError: the file cannot be written.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise VocoderError(f"pixels: {pixels.dtype} {pixels.shape}; a picture is uint8 (H, W, 3)")
    content = encode_png(pixels)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def encode_png(
    pixels: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None
) -> bytes:
    """Return a picture as the content of a PNG file.

    Args:
        pixels: red, green and blue, (H, W, 3); or with a palette indices into it, (H, W).
        palette: up to 256 colours, (n, 3), of red, green and blue.
    """
    height, width = pixels.shape[:2]
    # Each row begins with its filter, 0: none (PNG, second edition, 2003, section 9).
    rows = np.pad(pixels.reshape(height, -1), [(0, 0), (1, 0)])
    header = struct.pack(">2I5B", width, height, 8, 2 if palette is None else 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    if palette is not None:
        chunks.insert(1, (b"PLTE", palette.tobytes()))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
