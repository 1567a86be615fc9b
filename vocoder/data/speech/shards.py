"""A corpus in some tar files, in place of some files for each clip.

    shards/00000.tar   for each of its clips 00000000.audio.npy, 00000000.mel.npy and, of a corpus
                       with epochs, 00000000.epochs.npy; the number is the clip's in the manifest

These are the names of WebDataset, which reads such files too. How many clips each shard holds, and
how long they are, says the manifest, and from that follows to the byte where an array lies and what
stands before it. So nothing that a shard says is parsed: what differs is damage.
"""

from __future__ import annotations

import itertools
import math
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError, reason
from vocoder.files.arrays import npy_header

_BLOCK = 512  # bytes: what a tar file consists of
_NPY_HEADER = 128  # bytes, of the arrays here


@dataclass(frozen=True)
class Array:
    """What an array of a clip is, without its content.

    Args:
        kind: "audio", "mel" or "epochs".
        dtype: Type of its values.
        shape: Shape of the array.
    """

    kind: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def n_bytes_in_tar(self) -> int:
        """Bytes of a shard that the array takes, headers and filling included."""
        return _BLOCK - (_NPY_HEADER + self.n_bytes) // -_BLOCK * _BLOCK

    def head(self, number: int) -> bytes:
        """Return what stands before the values in a shard: two headers, of tar and of .npy.

        Args:
            number: Number of the clip in the manifest.
        """
        header = npy_header(self.dtype, self.shape)
        member = tarfile.TarInfo(f"{number:08}.{self.kind}.npy")
        member.size = len(header) + self.n_bytes
        return member.tobuf(tarfile.GNU_FORMAT) + header


def shard_path(folder: Path, shard: int) -> Path:
    """Return where a corpus keeps a shard."""
    return folder / "shards" / f"{shard:05}.tar"


def begins_as_shard(path: Path) -> bool:
    """Tell whether a file begins with the audio of a clip, or is a link to nothing."""
    if not path.exists():
        return True
    if not path.is_file():  # to open a pipe would wait for its writer
        return False
    with open(path, "rb") as file:
        return re.match(rb"\d{8,}\.audio\.npy\0", file.read(_BLOCK)) is not None


class Shards:
    """The arrays of a corpus in shards, mapped from the disk as they are asked for.

    Args:
        folder: Folder of the corpus.
        sizes: How many clips each shard holds.
        clips: The arrays of each clip, in the order of the manifest.
    """

    def __init__(
        self, folder: Path, sizes: Sequence[int], clips: Iterable[Sequence[Array]]
    ) -> None:
        self.folder = folder
        self._places: list[tuple[int, int]] = []  # of each clip: its shard, and its first byte
        self._maps: dict[int, npt.NDArray[np.uint8]] = {}
        rest = iter(clips)
        for shard, size in enumerate(sizes):
            start = 0
            for arrays in itertools.islice(rest, size):
                self._places.append((shard, start))
                start += sum(array.n_bytes_in_tar for array in arrays)

    def map(self, number: int, arrays: Sequence[Array], kind: str) -> npt.NDArray[Any]:
        """Map an array of a clip, read-only.

        Args:
            number: Number of the clip in the manifest.
            arrays: The arrays of the clip.
            kind: Which of them.

        Raises:
            VocoderError: the shard is missing or is not what the manifest says.
        """
        shard, start = self._places[number]
        before = itertools.takewhile(lambda array: array.kind != kind, arrays)
        start += sum(array.n_bytes_in_tar for array in before)
        wanted = next(array for array in arrays if array.kind == kind)
        begin = start + _BLOCK + _NPY_HEADER
        end = begin + wanted.n_bytes
        content = self._map(shard)
        if end > len(content) or content[start:begin].tobytes() != wanted.head(number):
            raise VocoderError(
                f"{shard_path(self.folder, shard)}: clip {number} is not what the manifest says; "
                "copy the shard again, or make the shards anew with `vocoder shard`"
            )
        return content[begin:end].view(wanted.dtype).reshape(wanted.shape)

    def _map(self, shard: int) -> npt.NDArray[np.uint8]:
        if shard not in self._maps:
            path = shard_path(self.folder, shard)
            if not path.is_file():  # to open a pipe would wait for its writer
                raise VocoderError(f"{path}: no such file; copy the shard there, or link to it")
            try:
                self._maps[shard] = np.memmap(path, np.uint8, "r")
            except (OSError, ValueError) as error:  # an empty file is a ValueError
                raise VocoderError(
                    f"{path}: cannot be read ({reason(error)}); copy the shard again"
                ) from None
        return self._maps[shard]


def write_shard(
    path: Path,
    clips: Iterable[tuple[int, Sequence[Array]]],
    read: Callable[[int, str], npt.NDArray[Any]],
) -> None:
    """Write the arrays of some clips to a tar file.

    Args:
        path: Path of the file.
        clips: Number and arrays of each clip.
        read: Gives an array by the number of its clip and its kind.

    Raises:
        OSError: the file cannot be written.
        VocoderError: an array cannot be read.
    """
    with open(path, "wb") as file:
        for number, arrays in clips:
            for array in arrays:
                values = np.ascontiguousarray(read(number, array.kind))
                head = array.head(number)
                assert len(head) == _BLOCK + _NPY_HEADER, array
                file.write(head)
                file.write(values.data)
                file.write(bytes(-file.tell() % _BLOCK))
        file.write(bytes(2 * _BLOCK))  # the end of an archive


def divide(sizes: Iterable[int], most_bytes: int) -> Iterator[int]:
    """Yield how many of the clips, in their order, each shard takes.

    Args:
        sizes: Bytes of each clip.
        most_bytes: Bytes of a shard; a clip that is longer has one to itself.
    """
    n_clips = n_bytes = 0
    for size in sizes:
        if n_clips and n_bytes + size > most_bytes:
            yield n_clips
            n_clips = n_bytes = 0
        n_clips += 1
        n_bytes += size
    yield n_clips
