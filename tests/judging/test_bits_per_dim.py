"""Bits per dimension against plain sums, and what must not change them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import perturb, save_images, tiny_image_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from vocoder.data.images.dequantise import dequantise_each, noisy_images
from vocoder.data.images.sets import ImageSet, open_images
from vocoder.errors import VocoderError
from vocoder.judging.bits_per_dim import bits_per_dim, inversion_error, nats_to_bits
from vocoder.models.families.image_flow import ImageFlow
from vocoder.models.glow import Glow


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    path = save_images(tmp_path_factory.mktemp("data") / "images.npz")
    return open_images("arrays", path, n_validation=6, seed=0)


@pytest.fixture(scope="module")
def model() -> ImageFlow:
    torch.manual_seed(0)
    return perturb(Glow(tiny_image_recipe().config), size=0.1).eval()


@pytest.mark.parametrize("n_values", [2, 8, 17, 256])
def test_the_uniform_density_costs_every_bit(n_values: int) -> None:
    assert nats_to_bits(0.0, n_values) == math.log2(n_values)


def test_it_is_the_plain_mean_over_images_and_draws(images: ImageSet, model: ImageFlow) -> None:
    score = bits_per_dim(model, images.train, 8, n_draws=3, seed=5)
    table = np.array(
        [
            [
                nats_to_bits(
                    -model.log_prob(noisy_images(images.train, [i], 8, seed=5, draw=k)).item() / 32,
                    8,
                )
                for k in range(3)
            ]
            for i in range(18)
        ]
    )
    assert (score.n_images, score.n_draws) == (18, 3)
    assert score.mean == pytest.approx(table.mean(), rel=1e-6)
    error = table.mean(axis=1).std(ddof=1) / math.sqrt(18)
    assert score.standard_error == pytest.approx(error, rel=1e-4)
    probabilities = np.exp2(-32 * table)
    assert score.importance_weighted == pytest.approx(
        -np.log2(probabilities.mean(axis=1)).mean() / 32, rel=1e-6
    )
    assert score.importance_weighted < score.mean


@settings(max_examples=10, deadline=None)
@given(batch_size=st.integers(1, 20))
def test_no_batch_size_changes_it(images: ImageSet, model: ImageFlow, batch_size: int) -> None:
    """18 images, so that most batch sizes leave a smaller last batch."""
    expected = bits_per_dim(model, images.train, 8, seed=1)
    score = bits_per_dim(model, images.train, 8, seed=1, batch_size=batch_size)
    assert score.mean == pytest.approx(expected.mean, rel=1e-6)
    assert score.standard_error == pytest.approx(expected.standard_error, rel=1e-4)


def test_one_draw_has_one_bound_and_the_seed_is_all(images: ImageSet, model: ImageFlow) -> None:
    score = bits_per_dim(model, images.test, 8, seed=1)
    assert score.importance_weighted == pytest.approx(score.mean, rel=1e-9)
    assert score == bits_per_dim(model, images.test, 8, seed=1)
    assert score.mean != bits_per_dim(model, images.test, 8, seed=2).mean


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
def test_a_divergence_is_not_hidden(images: ImageSet, model: ImageFlow, value: float) -> None:
    class Broken(Glow):
        def log_prob(self, x):  # type: ignore[no-untyped-def]
            values = super().log_prob(x)
            values[0] = value
            return values

    broken = Broken(model.config).eval()
    score = bits_per_dim(broken, images.train, 8)
    assert score.mean == score.importance_weighted == math.inf
    assert score.by_image.isinf().tolist() == [True] + [False] * 17
    assert (score.by_image > 0).all()


def test_there_must_be_images(tmp_path: Path, model: ImageFlow) -> None:
    empty = open_images("arrays", save_images(tmp_path / "x.npz"), n_validation=0, seed=0)
    with pytest.raises(VocoderError, match="no images to score"):
        bits_per_dim(model, empty.validation, 8)


def test_inversion_error_is_the_largest_difference(images: ImageSet, model: ImageFlow) -> None:
    class Shifted(Glow):
        def inverse(self, z):  # type: ignore[no-untyped-def]
            x = super().inverse(z)
            x[1, 0, 2, 3] += 0.25
            return x

    x = dequantise_each(images.test[:3], 8, [np.random.default_rng(i) for i in range(3)])
    assert inversion_error(model, x) < 1e-5
    shifted = Shifted(model.config).eval()
    shifted.load_state_dict(model.state_dict())
    assert inversion_error(shifted, x) == pytest.approx(0.25, abs=1e-5)
