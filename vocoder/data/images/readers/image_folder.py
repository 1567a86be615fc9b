"""A folder of pictures of one size, or cropped and scaled to one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vocoder.data.images.reader import Pixels, Source, needed, register_images, split_rows
from vocoder.errors import VocoderError, reason
from vocoder.files.folders import natural_key, walk_files, warn_of_left_out

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif"),
        *(".ppm", ".pgm", ".tif", ".tiff", ".webp"),
    )
)
# Pictures that not every Pillow reads, so that a folder of them is not taken for an empty one.
_FOREIGN_SUFFIXES = frozenset(
    (
        *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".svg", ".psd", ".xcf"),
        *(".tga", ".pcx", ".pbm", ".pnm", ".exr", ".hdr", ".eps", ".dds", ".ico", ".apng"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    )
)
_CHUNK = 1024  # pictures


@register_images("image_folder")
def read_pictures(path: Path | None) -> Source:
    """Read a folder of pictures that all have one size; see `read_image_folder`."""
    return read_image_folder(needed(path, "image_folder"))


def read_image_folder(folder: Path, side: int | None = None) -> Source:
    """Read the pictures below a folder, in the order of their paths.

    Pictures below train/ and test/ are these splits; without such folders a tenth is drawn for the
    test, once and for all. The first training picture says whether all become grey or coloured;
    transparency is dropped.

    Args:
        folder: Folder of PNG, JPEG and other files that Pillow reads.
        side: crop each picture to its central square and scale that to this side with Pillow's
            box filter, which averages the pixels it merges; None takes pictures as they are, and
            all must have one size.

    Raises:
        VocoderError: there are no pictures. What is wrong with one shows when it is read.
    """
    if side is not None and side < 1:
        raise VocoderError(f"side: must be positive, is {side}")
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = list_pictures(folder / "train"), list_pictures(folder / "test")
    else:
        paths = list_pictures(folder)
        train, test = ([paths[row] for row in rows] for rows in split_rows(len(paths), folder))
    with opened(train[0]) as first:
        mode = "L" if first.mode in ("1", "L", "LA") else "RGB"
    return Source(train=decode(train, mode, side), test=decode(test, mode, side))


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures below a folder, sorted with numbers in the order of counting.

    What is left out is told of in warnings: folders, and pictures that cannot be read.

    Raises:
        VocoderError: there are none.
    """
    found = walk_files(folder)
    names = [name for name in found.files if name.suffix.lower() in _SUFFIXES]
    warn_of_left_out(folder, found, _FOREIGN_SUFFIXES, "pictures", "convert them to PNG or JPEG")
    if not names:
        raise VocoderError(f"{folder}: holds no pictures, such as .png or .jpg")
    return [folder / name for name in sorted(names, key=lambda name: natural_key(name.as_posix()))]


def decode(paths: Sequence[Path], mode: str, side: int | None = None) -> Iterator[Pixels]:
    """Decode pictures chunk by chunk, (n, C, H, W).

    Args:
        paths: Paths of the files.
        mode: "L" (grey) or "RGB", which all are converted to.
        side: crop to the central square and scale to this; None takes them as they are.

    Raises:
        VocoderError: one cannot be read, or has another size than the first.
    """
    first: tuple[int, ...] = ()
    for start in range(0, len(paths), _CHUNK):
        chunk = []
        for path in paths[start : start + _CHUNK]:
            pixels = _decode_one(path, mode, side)
            first = first or pixels.shape
            if pixels.shape != first:
                (_, height, width), (_, high, wide) = pixels.shape, first
                raise VocoderError(
                    f"{path}: has {width}x{height} pixels, {paths[0].name} {wide}x{high}; "
                    "scale all to one size: vocoder preprocess image_folder --side"
                )
            chunk.append(pixels)
        yield np.stack(chunk)


def _decode_one(path: Path, mode: str, side: int | None) -> Pixels:
    with opened(path) as picture:
        image = picture.convert(mode)
        pixels = np.asarray(image if side is None else _square(image, side))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """Open a picture for the length of a block.

    Raises:
        VocoderError: it cannot be read or decoded, or holds floats.
    """
    try:
        from PIL import Image
    except ImportError:
        raise VocoderError("pictures need Pillow; run: pip install pillow") from None
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("F"):
                raise VocoderError(f"{path}: holds floats; save it with 8 or 16 bits a channel")
            yield _eight_bits(picture) if picture.mode.startswith("I") else picture
    except VocoderError:
        raise
    # Pillow's decoders meet damage with any of these.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise VocoderError(f"{path}: not a readable picture ({reason(error)})") from None


def _eight_bits(picture: Image) -> Image:
    """Return a grey picture of 16 bits with the upper 8 of them."""
    from PIL import Image

    values = np.asarray(picture).astype(np.int64)
    return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))


def _square(image: Image, side: int) -> Image:
    """Crop to the central square, its corner rounded up and left, and scale it to a side."""
    from PIL.Image import Resampling

    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    square = image.crop((left, top, left + edge, top + edge))
    return square.resize((side, side), Resampling.BOX)
