"""Figures of a model of images on the test images of its data set."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocoder.bits_per_dim import bits_per_dim, inversion_error, noisy_images
from vocoder.data.image_description import shape_text
from vocoder.data.images import Images, quantise
from vocoder.errors import VocoderError
from vocoder.frechet import (
    RandomFeatures,
    TorchScriptFeatures,
    fit_gaussian,
    frechet_distance,
    read_statistics,
    write_statistics,
)
from vocoder.sampling import BATCH_SIZE, ImageModel

log = logging.getLogger("vocoder")
LARGEST_INVERSION_ERROR = 1e-3  # a quarter of the distance between two of 256 values
_INVERTED_IMAGES = 16


def evaluate_images(
    path: str | Path,
    data: str | Path | None = None,
    *,
    n_images: int | None = None,
    n_draws: int = 1,
    n_samples: int | None = None,
    extractor: str | Path | None = None,
    statistics: str | Path | None = None,
    save_statistics: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 100,
    device: str | None = None,
) -> dict[str, Any]:
    """Score a model of images on test images; nothing else looks at them to judge it.

    Args:
        path: a checkpoint or run folder.
        data: where the images are; None where they come with a library.
        n_images: how many test images, the first in order; None takes all.
        n_draws: how many times each image is dequantised.
        n_samples: how many samples the Fréchet distance compares with the images; None: as
            many as images if one of the next three is given, otherwise there is no such figure.
        extractor: a TorchScript file that makes features of images, **which runs the code in it**;
            None takes those of an untrained network.
        statistics: an .npz of features to compare with, as pytorch-fid writes it, instead of those
            of the test images.
        save_statistics: an .npz to write the features of the test images to.
        seed: of the noise.
        batch_size: images scored at once.
        device: None is a GPU where there is one.

    Returns:
        Figures by name, those of the likelihood with the shape of the images that they hold for.

    Raises:
        VocoderError: the file is not of an image model, or the images are not like its own.
    """
    for name, count in (("images", n_images), ("draws", n_draws), ("samples", n_samples)):
        if count is not None and count < 1:
            raise VocoderError(f"{name} {count}: must be at least 1")
    model = ImageModel(path, device)
    images = model.images.open(None if data is None else Path(data))
    if model.images.fingerprint not in ("", images.fingerprint):
        log.warning("%s: other images than those the model was trained on", data or images.name)
    chosen = Images(images.test.array, images.test.rows[:n_images], images.test.side)
    n_values = images.n_values
    score = bits_per_dim(
        model.flow, chosen, n_values, n_draws=n_draws, seed=seed, batch_size=batch_size
    )
    some = noisy_images(chosen, range(min(_INVERTED_IMAGES, len(chosen))), n_values, seed=seed)
    error = inversion_error(model.flow, some.to(model.device))
    if not error <= LARGEST_INVERSION_ERROR:
        log.warning("the model does not invert well: images come back up to %.2g away", error)
    size = shape_text(images.image_shape)
    figures: dict[str, Any] = {
        "data": str(model.images),
        "test images": score.n_images,
        "dequantisations": score.n_draws,
        f"bits/dim at {size}": score.mean,
        "standard error": score.standard_error,
        f"bits/dim at {size}, importance-weighted": score.importance_weighted,
    }
    unpadded = chosen.array.shape[1:]
    if unpadded != images.image_shape:
        ratio = math.prod(images.image_shape) / math.prod(unpadded)
        figures[f"bits/dim at {size}, all bits counted to {shape_text(unpadded)}"] = (
            score.mean * ratio
        )
    figures["inversion error"] = error
    if any(option is not None for option in (n_samples, extractor, statistics, save_statistics)):
        features = (
            RandomFeatures(model.device)
            if extractor is None
            else TorchScriptFeatures(extractor, model.device)
        )
        if statistics is None or save_statistics is not None:
            real = fit_gaussian(_batches(chosen), n_values, features)
        if save_statistics is not None:
            write_statistics(save_statistics, real)
        if statistics is not None:
            real = read_statistics(statistics)
        samples = model.sample(n_samples or score.n_images, seed=seed)
        finite = samples[samples.flatten(1).isfinite().all(dim=1)]
        made = fit_gaussian(quantise(finite, n_values).split(BATCH_SIZE), n_values, features)
        figures["samples"] = len(samples)
        figures["non-finite samples, left out"] = len(samples) - len(finite)
        figures[f"Fréchet distance ({features.name})"] = frechet_distance(real, made)
    return figures


def _batches(images: Images) -> Iterator[Tensor]:
    for first in range(0, len(images), BATCH_SIZE):
        yield torch.from_numpy(images[slice(first, first + BATCH_SIZE)])
