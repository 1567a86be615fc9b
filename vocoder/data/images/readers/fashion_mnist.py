"""Fashion-MNIST: 28x28 grey pictures of clothes, in files like MNIST's; Debian has them packed."""

from __future__ import annotations

from pathlib import Path

from vocoder.data.images.reader import Source, register_images
from vocoder.data.images.readers.mnist import read_mnist
from vocoder.errors import VocoderError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package puts them


@register_images("fashion-mnist")
def read_fashion_mnist(path: Path | None) -> Source:
    """Read Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 60,000 and 10,000 images.

    Args:
        path: the folder with the two image files, see `read_mnist`; None is that of the Debian
            package.
    """
    if path is None and not DEBIAN.is_dir():
        raise VocoderError(
            f"image set 'fashion-mnist': is not in {DEBIAN}; run `apt install "
            "dataset-fashion-mnist`, or name the folder that holds its idx files (--data)"
        )
    return read_mnist(path or DEBIAN)
