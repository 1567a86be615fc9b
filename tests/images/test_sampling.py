"""Samples, reconstructions and interpolations of an image model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import perturb, save_images, tiny_image_recipe
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vocoder import checkpoint
from vocoder.data.images.description import ImageDescription
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError
from vocoder.images import sampling
from vocoder.images.sampling import (
    ImageModel,
    interpolate_linear,
    interpolate_spherical,
    sample_grid,
)
from vocoder.models.glow import Glow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("data") / "images.npz", test=20)


@pytest.fixture(scope="module")
def path(data: Path) -> Path:
    images = open_images("arrays", data, n_validation=6, seed=0)
    torch.manual_seed(0)
    model = perturb(Glow(tiny_image_recipe().config), size=0.1)
    path = data.with_name("model.safetensors")
    checkpoint.save(path, model, ImageDescription.of(images, side=0, seed=0))
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> ImageModel:
    return ImageModel(path, "cpu")


def test_samples_follow_from_the_seed_alone(
    model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.sample(7, seed=3)
    assert expected.shape == (7, 1, 4, 8)
    monkeypatch.setattr(sampling, "BATCH_SIZE", 2)
    torch.testing.assert_close(model.sample(7, seed=3), expected)
    torch.testing.assert_close(model.encode(expected), model.encode(expected[:7]))
    assert not torch.equal(model.sample(7, seed=4), expected)


def test_without_temperature_all_samples_are_one(model: ImageModel) -> None:
    samples = model.sample(3, temperature=0, seed=1)
    assert torch.equal(samples[0], samples[2])
    for temperature in (-1, float("nan"), float("inf")):
        with pytest.raises(VocoderError, match="temperature"):
            model.sample(1, temperature=temperature)


def test_held_out_images_are_different_test_images(model: ImageModel, data: Path) -> None:
    test = open_images("arrays", data, n_validation=6, seed=0).test[:]
    held_out = model.held_out(20, data=data, seed=2)
    pixels = ((held_out + 0.5) * 8).floor().to(torch.uint8)
    assert {p.numpy().tobytes() for p in pixels} == {p.tobytes() for p in test}
    with pytest.raises(VocoderError, match="21 images wanted, the test split has 20"):
        model.held_out(21, data=data)


def test_a_reconstruction_is_the_image(model: ImageModel, data: Path) -> None:
    x = model.held_out(5, data=data)
    both = model.reconstruct(x)
    torch.testing.assert_close(both[::2], x)
    torch.testing.assert_close(both[1::2], x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("course", ["linear", "spherical"])
def test_an_interpolation_ends_at_its_images(
    model: ImageModel, data: Path, course: sampling.Course
) -> None:
    x = model.held_out(4, data=data)
    ways = model.interpolate(x, 5, course).unflatten(0, (2, 5))
    torch.testing.assert_close(ways[:, 0], x[::2], atol=1e-5, rtol=0)
    torch.testing.assert_close(ways[:, -1], x[1::2], atol=1e-5, rtol=0)


@given(seed=st.integers(0, 99), weight=st.floats(0, 1))
def test_the_two_courses(seed: int, weight: float) -> None:
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed)).double()
    w = torch.tensor([weight], dtype=torch.float64)
    torch.testing.assert_close(interpolate_linear(a, b, w)[0], (1 - weight) * a + weight * b)
    point = interpolate_spherical(a, b, w)[0]
    torch.testing.assert_close(point.norm(), (1 - weight) * a.norm() + weight * b.norm())
    # In the plane of a and b, at its share of the angle.
    basis, _ = torch.linalg.qr(torch.stack([a, b], dim=1))
    torch.testing.assert_close(basis @ (basis.T @ point), point)
    angle = torch.nn.functional.cosine_similarity(a, b, dim=0).acos()
    torch.testing.assert_close(
        point @ a, point.norm() * a.norm() * (weight * angle).cos(), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("seed", [-1, 2**70])
def test_a_seed_out_of_range(path: Path, data: Path, seed: int) -> None:
    model = ImageModel(path, "cpu")
    with pytest.raises(VocoderError, match=f"seed {seed}: must lie between 0 and"):
        model.sample(1, seed=seed)
    with pytest.raises(VocoderError, match=f"seed {seed}: must lie between 0 and"):
        model.held_out(1, data=data, seed=seed)


def test_between_equal_ends_nothing_moves() -> None:
    a = torch.randn(10, generator=torch.Generator().manual_seed(0))
    for b in (a, 2 * a):
        way = interpolate_spherical(a, b, torch.linspace(0, 1, 3))
        torch.testing.assert_close(way, torch.stack([a, (a + b) / 2, b]))


@pytest.mark.parametrize(
    ("show", "n_images", "columns"),
    [("samples", 6, 3), ("reconstructions", 12, 4), ("linear", 48, 8), ("spherical", 48, 8)],
)
def test_the_grid(path: Path, data: Path, tmp_path: Path, show, n_images, columns) -> None:  # type: ignore[no-untyped-def]
    report = sample_grid(
        path, tmp_path / "deep/x.png", 6, show=show, data=data, temperature=0.5, device="cpu"
    )
    assert (report.n_images, report.n_non_finite, report.size) == (n_images, 0, "1x4x8")
    with Image.open(tmp_path / "deep/x.png") as picture:
        # Images of 8 pixels and a gap of 2, and each pixel a square of 4 × 4.
        assert picture.size == (4 * (columns * 10 - 2), 4 * (n_images // columns * 6 - 2))
        pixels = np.asarray(picture)
    assert np.array_equal(pixels[::4, ::4].repeat(4, axis=0).repeat(4, axis=1), pixels)


def test_non_finite_samples_are_counted_and_shown(path: Path, tmp_path: Path) -> None:
    stored = checkpoint.load(path)
    with torch.no_grad():
        next(stored.model.parameters()).fill_(float("nan"))
    broken = tmp_path / "broken.safetensors"
    checkpoint.save(broken, stored.model, stored.data)
    report = sample_grid(broken, tmp_path / "x.png", 4, device="cpu")
    assert report.n_non_finite == 4
    with Image.open(tmp_path / "x.png") as picture:
        assert (255, 0, 255) in {color for _, color in picture.getcolors()}


def test_only_png_is_written(path: Path, tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match=r"x\.jpg: pictures are written as \.png"):
        sample_grid(path, tmp_path / "x.jpg", 4)
    assert not list(tmp_path.iterdir())
