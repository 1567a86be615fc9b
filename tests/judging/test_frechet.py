"""The Fréchet distance: equal to the textbook's, whatever the parts the features come in."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vocoder.errors import VocoderError
from vocoder.judging.frechet import (
    FeatureStatistics,
    Gaussian,
    RandomFeatures,
    TorchScriptFeatures,
    fit_gaussian,
    frechet_distance,
    read_statistics,
    write_statistics,
)

# TorchScript is deprecated as a way to export, and what extractors come in.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


def random_gaussian(n: int, seed: int, rank: int | None = None) -> Gaussian:
    random = np.random.default_rng(seed)
    factor = random.standard_normal((n, rank or n)) * random.lognormal(0, 1, rank or n)
    return Gaussian(random.standard_normal(n), factor @ factor.T)


def statistics_of(features: np.ndarray) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    statistics.add(torch.from_numpy(features))
    return statistics


# ---- the distance ----


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_equals_the_root_of_the_product(n):
    a, b = random_gaussian(n, 0), random_gaussian(n, 1)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(
        a.covariance + b.covariance - 2 * root.real
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@given(n=st.integers(1, 12), rank=st.integers(1, 12), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_is_symmetric_and_zero_to_itself_even_when_singular(n, rank, seed):
    a, b = random_gaussian(n, seed, min(rank, n)), random_gaussian(n, seed + 1)
    size = np.trace(a.covariance) + np.trace(b.covariance)
    assert frechet_distance(a, b) >= 0
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-6 * size)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6 * size)


def test_a_shift_alone_counts_squared_and_a_scale_by_its_difference():
    a = random_gaussian(5, 0)
    shifted = Gaussian(a.mean + np.array([3, 0, 4, 0, 0]), a.covariance)
    assert frechet_distance(a, shifted) == pytest.approx(25)
    # Deviations of σ and 3σ along each axis: the sum of (3σ - σ)².
    wider = Gaussian(a.mean, 9 * a.covariance)
    assert frechet_distance(a, wider) == pytest.approx(4 * np.trace(a.covariance))


def test_different_features_do_not_compare():
    with pytest.raises(VocoderError, match="of 3 and 4 features"):
        frechet_distance(random_gaussian(3, 0), random_gaussian(4, 0))


# ---- statistics ----


@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=8).filter(lambda s: sum(s) >= 2),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=50)
def test_parts_make_the_whole(sizes, seed):
    features = np.random.default_rng(seed).standard_normal((sum(sizes), 3)) * [1, 10, 0.1] + 100
    parts = np.split(features, np.cumsum(sizes)[:-1])
    added, merged = FeatureStatistics(3), FeatureStatistics(3)
    for part in parts:
        added.add(torch.from_numpy(part))
        merged.merge(statistics_of(part))
    for statistics in (added, merged):
        assert statistics.count == len(features)
        np.testing.assert_allclose(statistics.mean, features.mean(axis=0), rtol=1e-12)
        expected = np.cov(features, rowvar=False)
        np.testing.assert_allclose(statistics.covariance, expected, rtol=1e-9, atol=1e-10)


def test_a_large_mean_does_not_drown_the_covariance():
    features = np.random.default_rng(0).standard_normal((500, 2))
    near, far = statistics_of(features), statistics_of(features + 1e6)
    np.testing.assert_allclose(near.covariance, far.covariance, rtol=1e-8, atol=1e-9)


def test_features_that_are_none():
    statistics = FeatureStatistics(2)
    with pytest.raises(VocoderError, match="at least 2 images, not 0"):
        statistics.gaussian()
    with pytest.raises(VocoderError, match=r"shape \(3, 4\), not \(B, 2\)"):
        statistics.add(torch.zeros(3, 4))
    with pytest.raises(VocoderError, match="NaN or infinite for 1 of 3 images"):
        statistics.add(torch.tensor([[0, 1], [0, float("nan")], [0, 0]]))
    assert statistics.count == 0


@pytest.mark.parametrize(("count", "warned"), [(4, True), (5, True), (6, False)])
def test_too_few_images_are_told(caplog, count, warned):
    with caplog.at_level(logging.WARNING, "vocoder"):
        statistics_of(np.random.default_rng(0).standard_normal((count, 5))).gaussian()
    assert bool(caplog.records) == warned
    assert not warned or f"{count} images for 5 features" in caplog.text


# ---- files ----


def test_pytorch_fids_files_are_read_and_written(tmp_path):
    gaussian = random_gaussian(6, 0)
    np.savez_compressed(tmp_path / "theirs.npz", mu=gaussian.mean, sigma=gaussian.covariance)
    theirs = read_statistics(tmp_path / "theirs.npz")
    assert theirs.count is None
    assert frechet_distance(theirs, gaussian) == pytest.approx(0, abs=1e-9)

    write_statistics(tmp_path / "ours.npz", Gaussian(gaussian.mean, gaussian.covariance, 50))
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["mu"], gaussian.mean)
        np.testing.assert_array_equal(file["sigma"], gaussian.covariance)
    assert read_statistics(tmp_path / "ours.npz").count == 50
    assert len(list(tmp_path.iterdir())) == 2


BAD_FILES = {
    "other arrays": ({"mean": np.zeros(3)}, "not statistics with `mu` and `sigma`"),
    "shapes": ({"mu": np.zeros(3), "sigma": np.zeros((3, 2))}, "do not fit"),
    "empty": ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "do not fit"),
    "NaN": ({"mu": np.zeros(1), "sigma": np.full((1, 1), np.nan)}, "NaN or infinite"),
    "asymmetric": ({"mu": np.zeros(2), "sigma": np.array([[1, 0], [1, 1]])}, "not symmetric"),
    "objects": ({"mu": np.array([None]), "sigma": np.zeros((1, 1))}, "not readable"),
    "endless": ({"mu": np.zeros(1), "sigma": np.zeros((1, 1)), "n": np.inf}, "not statistics"),
    "text": ({"mu": np.array("a"), "sigma": np.zeros((1, 1))}, "not statistics"),
}


@pytest.mark.parametrize("damage", BAD_FILES)
def test_files_of_something_else(tmp_path, damage):
    arrays, words = BAD_FILES[damage]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(VocoderError, match=words) as caught:
        read_statistics(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY\x01\x00\x03\x00{'(", b"text"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(VocoderError, match=r"a\.npz: not readable as plain arrays [^\n]*\Z"):
        read_statistics(tmp_path / "a.npz")


def test_file_names(tmp_path):
    with pytest.raises(VocoderError, match="no such file"):
        read_statistics(tmp_path / "a.npz")
    with pytest.raises(VocoderError, match="statistics go into an"):
        write_statistics(tmp_path / "a.npy", random_gaussian(2, 0))
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(VocoderError, match="belongs in an"):
        read_statistics(tmp_path / "a.npy")


# ---- features ----


def noise(n: int, scale: int = 256, channels: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, 16, 16)
    return torch.randint(scale, shape, generator=generator, dtype=torch.uint8)


def test_random_features_are_always_the_same_and_tell_sets_apart():
    first, second = RandomFeatures(), RandomFeatures()
    assert torch.equal(first(noise(4)), second(noise(4)))
    same = [fit_gaussian(noise(1000, seed=s).split(300), 256, first) for s in (0, 1)]
    other = fit_gaussian([noise(1000, 128)], 256, first)
    assert same[0].count == 1000
    assert frechet_distance(*same) < 0.1 * frechet_distance(same[0], other)


def test_grey_and_few_values_become_colour_and_256_values():
    seen = []

    class Recorder:
        name = "recorder"

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.float().mean(dim=(2, 3))

    pixels = noise(3, 17, 1)
    fit_gaussian([pixels], 17, Recorder())
    assert seen[0].dtype == torch.uint8
    assert seen[0].shape == (3, 3, 16, 16)
    expected = np.round(pixels.numpy() * (255 / 16)).repeat(3, axis=1)
    np.testing.assert_array_equal(seen[0].numpy(), expected)


def test_no_images():
    with pytest.raises(VocoderError, match="no images to take features from"):
        fit_gaussian([], 256, RandomFeatures())


class Means(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=[2, 3])


class Inception(nn.Module):
    """Takes the option that NVIDIA's file takes."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        means = images.float().mean(dim=[2, 3])
        return means if return_features else means.softmax(dim=1)


@pytest.mark.parametrize("network", [Means(), Inception()])
def test_a_torchscript_file(tmp_path, network):
    torch.jit.script(network).save(tmp_path / "net.pt")
    extractor = TorchScriptFeatures(tmp_path / "net.pt")
    images = noise(5)
    torch.testing.assert_close(extractor(images), images.float().mean(dim=(2, 3)))
    assert extractor.name.startswith("features of net.pt, sha256 ")
    assert "FID" not in extractor.name.upper()


class Cropped(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:1].float().mean(dim=[2, 3])


class Flat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=[1, 2, 3])


class Failing(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().view(-1, 7)


def test_files_that_are_no_extractor(tmp_path):
    path = tmp_path / "net.pt"
    with pytest.raises(VocoderError, match=r"net\.pt: no such file"):
        TorchScriptFeatures(path)
    for content in (b"", b"PK\3\4text", b"text"):
        path.write_bytes(content)
        with pytest.raises(VocoderError, match=r"net\.pt: not a TorchScript network [^\n]*\Z"):
            TorchScriptFeatures(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(VocoderError, match="not a TorchScript network"):
        TorchScriptFeatures(path)
    networks = {Cropped: "did not return", Flat: "did not return", Failing: "fails on images"}
    for network, words in networks.items():
        torch.jit.script(network()).save(path)
        with pytest.raises(VocoderError, match=rf"net\.pt: {words}[^\n]*\Z"):
            TorchScriptFeatures(path)(noise(2))
