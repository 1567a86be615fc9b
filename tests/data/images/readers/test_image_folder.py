"""Folders of pictures: splits, sizes and colours, and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
from image_sets import check, pictures, refuse, write_pngs
from PIL import Image

from vocoder.data.images.prepared import prepare_images
from vocoder.data.images.readers import image_folder
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError


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


def test_what_is_left_out_is_told_of(tmp_path, caplog):
    train, test = tmp_path / "train", tmp_path / "test"
    write_pngs(train, pictures(2, 3, 4, 4))
    write_pngs(test / "b", pictures(1, 3, 4, 4))
    for name in ("b/1.HEIC", "a/1.jp2", "notes.txt"):
        (train / name).parent.mkdir(exist_ok=True)
        (train / name).touch()
    (test / "up").symlink_to(tmp_path)
    with caplog.at_level("WARNING", logger="vocoder"):
        open_images("image_folder", tmp_path, n_validation=0, seed=0)
    assert [record.getMessage() for record in caplog.records] == [
        f"{train}: left out 2 pictures that cannot be read (the first: a/1.jp2); convert them to "
        "PNG or JPEG",
        f"{test}/up: left out: a link to a folder that holds this one",
    ]


@pytest.mark.parametrize("name", ["1.jpe", "1.jfif", "1.TIFF"])
def test_other_names_of_known_formats_are_read(tmp_path, name):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        form = "TIFF" if name == "1.TIFF" else "JPEG"
        Image.new("RGB", (4, 4)).save(tmp_path / split / name, format=form)
    assert len(open_images("image_folder", tmp_path, n_validation=0, seed=0).train) == 1


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
