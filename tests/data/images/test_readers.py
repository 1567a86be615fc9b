"""All sets of images: their names, and a path that is missing."""

from __future__ import annotations

import pytest
from image_sets import refuse

from vocoder.data.images.reader import IMAGE_SETS
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError


def test_the_names():
    assert IMAGE_SETS.names() == [
        "arrays",
        "cifar10",
        "digits",
        "fashion-mnist",
        "image_folder",
        "imagenet32",
        "imagenet64",
        "mnist",
        "svhn",
    ]


@pytest.mark.parametrize("name", [name for name in IMAGE_SETS.names() if name != "digits"])
def test_a_missing_path_is_named(name, tmp_path):
    if name != "fashion-mnist":  # which is sought where Debian puts it
        with pytest.raises(VocoderError, match="needs the file or folder"):
            open_images(name, n_validation=0, seed=0)
    refuse(name, tmp_path / "nothing", "nothing: no such file or folder")
    refuse(name, tmp_path)


def test_digits_need_no_path(tmp_path):
    refuse("digits", tmp_path, "leave the path out")
