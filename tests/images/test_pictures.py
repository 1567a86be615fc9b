"""Pictures: what another reader of PNG sees is the grid that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vocoder.errors import VocoderError
from vocoder.files.png import write_png
from vocoder.images.pictures import count_non_finite, grid


def values(images: torch.Tensor, n_values: int = 256) -> torch.Tensor:
    """Return the middles of the bins of pixels."""
    return (images + 0.5) / n_values - 0.5


@given(
    count=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    n_columns=st.none() | st.integers(1, 12),
    gap=st.integers(0, 3),
)
@settings(deadline=None, max_examples=60)
def test_every_image_is_in_its_place(count, channels, height, width, n_columns, gap):
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(256, (count, channels, height, width), generator=generator)
    picture = grid(values(pixels), n_columns=n_columns, gap=gap)
    columns = min(count, n_columns or int(np.ceil(np.sqrt(count))))
    rows = int(np.ceil(count / columns))
    assert picture.shape == (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    covered = np.zeros(picture.shape[:2], bool)
    for index in range(count):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        window = slice(y, y + height), slice(x, x + width)
        expected = pixels[index].expand(3, -1, -1).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(picture[window], expected)
        covered[window] = True
    assert (picture[~covered] == 128).all()


def test_the_range_is_fixed():
    dark, mid = (torch.full((1, 1, 2, 2), x) for x in (-0.4, 0.0))
    alone = grid(dark)
    assert (grid(torch.cat([dark, mid]), n_columns=1)[:2] == alone).all()
    assert (alone == 25).all()
    x = torch.tensor([-7.0, -0.5, 0.4999, 0.5, 7.0]).view(1, 1, 1, 5)
    assert grid(x)[0, :, 0].tolist() == [0, 0, 255, 255, 255]


def test_fewer_values_reach_from_black_to_white():
    pixels = torch.arange(17).view(1, 1, 1, 17)
    levels = grid(values(pixels, 17), 17)[0, :, 0]
    assert levels.tolist() == [round(255 * i / 16) for i in range(17)]
    assert grid(values(torch.tensor([0, 1]).view(1, 1, 1, 2), 2), 2)[0, :, 0].tolist() == [0, 255]


def test_non_finite_pixels_are_magenta_and_counted():
    images = torch.zeros(4, 3, 2, 2)
    images[0, 1, 0, 0] = float("nan")
    images[2, 0, 1, 1] = float("inf")
    images[2, 2, 0, 1] = -float("inf")
    picture = grid(images, n_columns=4, gap=0)
    magenta = (picture == (255, 0, 255)).all(axis=2)
    assert np.argwhere(magenta).tolist() == [[0, 0], [0, 5], [1, 5]]
    assert count_non_finite(images) == 2
    grey = torch.tensor([0.0, float("nan")]).view(1, 1, 1, 2)
    assert grid(grey)[0].tolist() == [[128] * 3, [255, 0, 255]]


def test_the_callers_images_are_left_alone():
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0, 0, 0] = float("nan")
    before = images.clone()
    grid(images)
    assert torch.equal(images.nan_to_num(9), before.nan_to_num(9))


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_pillow_reads_what_is_written(tmp_path_factory, height, width, seed):
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_png(path, pixels)
    with Image.open(path) as picture:
        picture.verify()
    with Image.open(path) as picture:
        assert (picture.mode, picture.format) == ("RGB", "PNG")
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_what_is_no_picture_is_refused(tmp_path):
    for shape in [(3, 4, 4), (2, 2, 4, 4), (0, 3, 4, 4), (1, 3, 0, 4)]:
        with pytest.raises(VocoderError, match=r"a picture shows \(B, C, H, W\)"):
            grid(torch.zeros(shape))
    with pytest.raises(VocoderError, match="n_columns: must be positive"):
        grid(torch.zeros(1, 1, 2, 2), n_columns=0)
    for pixels in [np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8)]:
        with pytest.raises(VocoderError, match="a picture is uint8"):
            write_png(tmp_path / "a.png", pixels)
    assert not list(tmp_path.iterdir())
