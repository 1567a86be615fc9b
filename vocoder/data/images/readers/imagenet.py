"""ImageNet at 32x32 and 64x64, of which there are two, different in every pixel.

`oord-2016` (van den Oord et al., 2016, "small ImageNet"): folders of PNG files, 49,999 for
validation. The published figures of Glow, Flow++ and mAR-SCF are on it.
`chrabaszcz-2017` (Chrabaszcz et al., 2017, "downsampled ImageNet"): ten batches of rows as .npz or
pickles, 50,000 for validation. Scaled with a box filter, and easier by some tenths of a bit.

The validation images are the test split here, as in all publications.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vocoder.data.images.reader import Pixels, Source, needed, register_images
from vocoder.data.images.readers.cifar10 import rows_to_images
from vocoder.data.images.readers.image_folder import decode, list_pictures
from vocoder.errors import VocoderError
from vocoder.files.arrays import load_npz
from vocoder.files.pickles import load_arrays

_OORD, _CHRABASZCZ = "oord-2016", "chrabaszcz-2017"
_N_VALIDATION = {49_999: _OORD, 50_000: _CHRABASZCZ}
_N_BATCHES = 10


@register_images("imagenet32")
def read_imagenet32(path: Path | None) -> Source:
    """Read either ImageNet 32x32; see `read_imagenet`."""
    return read_imagenet(needed(path, "imagenet32"), 32)


@register_images("imagenet64")
def read_imagenet64(path: Path | None) -> Source:
    """Read either ImageNet 64x64; see `read_imagenet`."""
    return read_imagenet(needed(path, "imagenet64"), 64)


def read_imagenet(folder: Path, side: int) -> Source:
    """Read the ImageNet that a folder holds, and say which of the two it is.

    Args:
        folder: Folder with train_SxS/ and valid_SxS/, or with, somewhere below it,
            train_data_batch_1 to 10 and val_data, as .npz or pickles.
        side: S, 32 or 64.

    Raises:
        VocoderError: it holds neither or both. Damage, images of another size, and a count of
            validation images that is the other data set's show as they are read.
    """
    pictures = folder / f"train_{side}x{side}"
    batches = _find_batches(folder)
    if pictures.is_dir() and batches:
        raise VocoderError(f"{folder}: holds both ImageNets, which must not mix; name one's folder")
    if pictures.is_dir():
        variant = _OORD
        train = decode(list_pictures(pictures), "RGB")
        test = decode(list_pictures(folder / f"valid_{side}x{side}"), "RGB")
    elif batches:
        variant = _CHRABASZCZ
        names = [f"train_data_batch_{number}" for number in range(1, _N_BATCHES + 1)]
        for name in (*names, "val_data"):
            if name not in batches:
                raise VocoderError(f"{folder}: {name} is missing; fetch it again")
        train = _decode_batches([batches[name] for name in names], side)
        test = _decode_batches([batches["val_data"]], side)
    else:
        raise VocoderError(
            f"{folder}: has neither train_{side}x{side}/ nor train_data_batch_1, as .npz or pickle"
        )
    test = _of_variant(_of_side(test, side, folder), variant, folder)
    return Source(_of_side(train, side, folder), test, variant=variant)


def _find_batches(folder: Path) -> dict[str, Path]:
    """Return the batches below a folder by name; 64x64 comes in several parts, each a folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*_data*")):
        name = path.name.removesuffix(".npz")
        if path.is_file() and re.fullmatch(r"train_data_batch_\d+|val_data", name):
            if name in found:
                raise VocoderError(
                    f"{path}: is there twice, also as {found[name]}; name one folder"
                )
            found[name] = path
    return found


def _decode_batches(paths: Sequence[Path], side: int) -> Iterator[Pixels]:
    for path in paths:
        is_npz = path.suffix == ".npz"
        batch = load_npz(path) if is_npz else load_arrays(path.read_bytes(), path)
        yield rows_to_images(batch, side, path)


def _of_side(chunks: Iterator[Pixels], side: int, folder: Path) -> Iterator[Pixels]:
    for chunk in chunks:
        if chunk.shape[2:] != (side, side):
            height, width = chunk.shape[2:]
            raise VocoderError(f"{folder}: holds images of {width}x{height}, not {side}x{side}")
        yield chunk


def _of_variant(chunks: Iterator[Pixels], variant: str, folder: Path) -> Iterator[Pixels]:
    count = 0
    for chunk in chunks:
        count += len(chunk)
        yield chunk
    if _N_VALIDATION.get(count, variant) != variant:
        raise VocoderError(
            f"{folder}: has the files of {variant} and the {count} validation images of "
            f"{_N_VALIDATION[count]}; fetch either again"
        )
