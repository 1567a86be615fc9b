"""CIFAR-10, 32x32 in colour: the binary or the Python version, packed in its tar or not."""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vocoder.data.images.reader import Pixels, Source, needed, register_images
from vocoder.errors import VocoderError, reason
from vocoder.files.pickles import load_arrays

_STEMS = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_SHAPE = (3, 32, 32)  # a row of either version is the red plane, then green, then blue
_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the pixels
_MAX_BYTES = 1 << 28  # of one batch; the real ones have 31 MB


@register_images("cifar10")
def read_cifar10(path: Path | None) -> Source:
    """Read CIFAR-10; nothing is extracted from a tar, and no pickle is trusted.

    Args:
        path: cifar-10-binary.tar.gz or cifar-10-python.tar.gz, the folder that either unpacks to,
            or a folder that holds one of these.
    """
    place = _find(needed(path, "cifar10"))
    files = _read_folder(place) if place.is_dir() else _read_tar(place)
    for suffix, parse in ((".bin", _parse_binary), ("", _parse_pickle)):
        if any(stem + suffix in files for stem in _STEMS):
            return _source(files, suffix, parse, place)
    raise VocoderError(
        f"{place}: has neither data_batch_1.bin nor data_batch_1; this is no CIFAR-10"
    )


def _find(path: Path) -> Path:
    if path.is_dir():
        for name in ("batches-bin", "binary.tar.gz", "batches-py", "python.tar.gz"):
            inner = path / f"cifar-10-{name}"
            if inner.exists():
                return inner
    return path


def _source(
    files: dict[str, bytes], suffix: str, parse: Callable[[bytes, str], Pixels], place: Path
) -> Source:
    batches = []
    for stem in _STEMS:
        name = stem + suffix
        if name not in files:
            raise VocoderError(f"{place}: {name} is missing; fetch CIFAR-10 again")
        batches.append(parse(files[name], f"{place}: {name}"))
    return Source(train=batches[:-1], test=batches[-1:])


def _is_batch(name: str) -> bool:
    return name.removesuffix(".bin") in _STEMS


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if _is_batch(path.name)}


def _read_tar(path: Path) -> dict[str, bytes]:
    """Read the batches out of a tar; one with members that an honest one lacks is refused."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:  # in the order of the file: looking back would unpack again
                parts = posixpath.normpath(member.name).split("/")
                if member.name.startswith("/") or ".." in parts:
                    raise VocoderError(f"{path}: member {member.name[:80]!r} leaves its folder")
                if not (member.isreg() or member.isdir()):
                    raise VocoderError(f"{path}: member {member.name[:80]!r} is a link or device")
                if not member.isreg() or not _is_batch(parts[-1]):
                    continue
                if member.size > _MAX_BYTES:
                    raise VocoderError(f"{path}: {parts[-1]} has {member.size} bytes")
                content = archive.extractfile(member)
                assert content is not None, "a regular file has content"
                files[parts[-1]] = content.read()
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise VocoderError(f"{path}: not a whole tar ({reason(error)}); fetch it again") from None
    return files


def _parse_binary(content: bytes, where: str) -> Pixels:
    if not content or len(content) % _RECORD:
        raise VocoderError(
            f"{where}: {len(content)} bytes are not whole records of {_RECORD}; fetch it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    return records[:, 1:].reshape(-1, *_SHAPE)


def _parse_pickle(content: bytes, where: str) -> Pixels:
    return rows_to_images(load_arrays(content, where), 32, where)


def rows_to_images(batch: Mapping[str, object], side: int, where: str | Path) -> Pixels:
    """Return the images (N, 3, S, S) of a batch whose rows are red, green and blue planes.

    Args:
        batch: `data`, uint8 (N, 3 S S), and maybe `labels`, N whole numbers.
        side: Side S in pixels.
        where: the file's name, for messages.

    Raises:
        VocoderError: either is missing, or of another type or length.
    """
    data = batch.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
        found = f"{data.dtype}" if isinstance(data, np.ndarray) else type(data).__name__
        raise VocoderError(f"{where}: `data` must be a uint8 array, is {found}")
    if data.ndim != 2 or data.shape[1] != 3 * side * side or not len(data):
        raise VocoderError(
            f"{where}: `data` has shape {data.shape}, and {side}x{side} images in colour are rows "
            f"of {3 * side * side}"
        )
    labels = batch.get("labels")
    if labels is not None and not _are_labels(labels, len(data)):
        raise VocoderError(f"{where}: `labels` must be {len(data)} whole numbers")
    return data.reshape(-1, 3, side, side)


def _are_labels(labels: object, count: int) -> bool:
    if isinstance(labels, np.ndarray):
        return labels.dtype.kind in "iu" and labels.shape == (count,)
    # Never as an array: a few nested lists that share their items would grow without bound.
    return (
        isinstance(labels, list)
        and len(labels) == count
        and all(type(label) is int for label in labels)
    )
