"""Figures of a model of images on the test images of its data set."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocoder import checkpoint
from vocoder.data.images.dequantise import noisy_images, quantise
from vocoder.data.images.description import ImageDescription, shape_text
from vocoder.data.images.sets import Images, ImageSet
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path, check_place
from vocoder.images.sampling import BATCH_SIZE, ImageModel
from vocoder.judging.bits_per_dim import BitsPerDim, bits_per_dim, inversion_error
from vocoder.judging.comparison import RECORDING
from vocoder.judging.frechet import (
    Extractor,
    Gaussian,
    RandomFeatures,
    TorchScriptFeatures,
    check_statistics_path,
    fit_gaussian,
    frechet_distance,
    read_statistics,
    write_statistics,
)
from vocoder.judging.report.document import report_file, write_page
from vocoder.judging.report.image_findings import look
from vocoder.judging.report.image_page import render_image_report
from vocoder.voice.catalogue import voice_names

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
    report: str | Path | None = None,
    n_examples: int = 24,
    bits: str | Path | None = None,
) -> dict[str, Any]:
    """Score a model of images on test images; nothing else looks at them to judge it.

    Args:
        path: Path of a checkpoint or run folder.
        data: Path of the images; None where they come with a library or a package.
        n_images: How many test images, the first in order; None takes all.
        n_draws: How many times each image is dequantised.
        n_samples: How many samples the Fréchet distance compares with the images; None: as many as
            images if one of the next three is given, otherwise there is no such figure.
        extractor: A TorchScript file that makes features of images, **which runs the code in it**;
            None takes those of an untrained network.
        statistics: An .npz of features to compare with, as pytorch-fid writes it, instead of those
            of the test images.
        save_statistics: An .npz to write the features of the test images to.
        seed: Seed of the noise.
        batch_size: Images scored at once.
        device: None is a GPU where there is one.
        report: Path of an HTML page to write, to look at.
        n_examples: Images on that page that cost most bits, and as many that cost least; 0 for
            none.
        bits: An .npy to write the bits/dim of each test image to, float64 (n,), in order, as
            `paired_difference` compares those of two models; inf of one that cannot be scored.

    Returns:
        Figures by name, those of the likelihood with the shape of the images that they hold for.
        The first are the data that was scored, and a warning if the model was trained on another.

    Raises:
        VocoderError: The file is not of an image model, the images are not like its own, what the
            Fréchet distance needs is not there, or the report, the bits or the statistics cannot be
            written there.
        OSError: The report, the bits or the statistics cannot be written.
    """
    for name, count in (("images", n_images), ("draws", n_draws), ("samples", n_samples)):
        if count is not None and count < 1:
            raise VocoderError(f"{name} {count}: must be at least 1")
    if bits is not None:
        _check_bits_path(Path(bits))
    if save_statistics is not None:
        check_statistics_path(save_statistics)
    if n_examples < 0:
        raise VocoderError(f"examples {n_examples}: must be 0 or more")
    if str(path) in (RECORDING, *voice_names()) or not checkpoint.is_of_images(path):
        raise VocoderError(f"{path}: is a voice, not an image model; `vocoder evaluate` scores it")
    with report_file(report) as page:
        model = ImageModel(path, device)
        images = model.images.open(None if data is None else Path(data))
        about = _about(model, images, data)
        chosen = Images(images.test.array, images.test.rows[:n_images], images.test.side)
        # Made before the scoring, which may take hours: a missing file is told at once.
        distance = _distance(
            chosen, model, n_samples, extractor=extractor, given=statistics, kept=save_statistics
        )
        score = bits_per_dim(
            model.flow, chosen, images.n_values, n_draws=n_draws, seed=seed, batch_size=batch_size
        )
        figures = about | _figures(model, chosen, score, seed)
        if distance is not None:
            figures |= distance.figures(model, seed)
        if page is not None:
            findings = look(
                model,
                str(path),
                chosen,
                figures,
                score.by_image,
                seed=seed,
                n_examples=n_examples,
            )
            write_page(page, render_image_report(findings))
    if bits is not None:
        with atomic_path(bits) as temporary, temporary.open("wb") as file:
            np.save(file, score.by_image.numpy())
    return figures


def _check_bits_path(path: Path) -> None:
    if path.suffix != ".npy":
        raise VocoderError(f"{path}: the bits of each image go into an .npy file")
    check_place(path)


def _about(model: ImageModel, images: ImageSet, data: str | Path | None) -> dict[str, Any]:
    """Return what is scored, and if need be that the model was trained on something else."""
    described = str(ImageDescription.of(images, model.images.side, model.images.seed))
    about = {"data": described if data is None else f"{data} ({described})"}
    if model.images.fingerprint not in ("", images.fingerprint):
        warning = "other images than those the model was trained on"
        log.warning("%s: %s", data or images.name, warning)
        about["warning"] = f"{warning} ({model.images})"
    return about


def _figures(model: ImageModel, images: Images, score: BitsPerDim, seed: int) -> dict[str, Any]:
    """Return the figures of a likelihood, and how well the model inverts."""
    some = range(min(_INVERTED_IMAGES, len(images)))
    x = noisy_images(images, some, model.images.n_values, seed=seed)
    error = inversion_error(model.flow, x.to(model.device))
    if not error <= LARGEST_INVERSION_ERROR:
        log.warning("the model does not invert well: images come back up to %.2g away", error)
    shape, unpadded = images.shape[1:], images.array.shape[1:]
    size = shape_text(shape)
    figures: dict[str, Any] = {
        "test images": score.n_images,
        "dequantisations": score.n_draws,
        f"bits/dim at {size}": score.mean,
        "standard error": score.standard_error,
        f"bits/dim at {size}, importance-weighted": score.importance_weighted,
    }
    if unpadded != shape:
        ratio = math.prod(shape) / math.prod(unpadded)
        figures[f"bits/dim at {size}, all bits counted to {shape_text(unpadded)}"] = (
            score.mean * ratio
        )
    return figures | {"inversion error": error}


@dataclass(frozen=True)
class _Distance:
    """A Fréchet distance that only wants samples."""

    real: Gaussian
    features: Extractor
    n_samples: int

    def figures(self, model: ImageModel, seed: int) -> dict[str, Any]:
        """Draw samples and compare them; the distance is NaN of fewer than two finite ones."""
        n_values = model.images.n_values
        samples = model.sample(self.n_samples, seed=seed)
        finite = samples[samples.flatten(1).isfinite().all(dim=1)]
        distance = math.nan
        if len(finite) > 1:
            batches = quantise(finite, n_values).split(BATCH_SIZE)
            distance = frechet_distance(self.real, fit_gaussian(batches, n_values, self.features))
        return {
            "samples": len(samples),
            "non-finite samples, left out": len(samples) - len(finite),
            f"Fréchet distance ({self.features.name})": distance,
        }


def _distance(
    images: Images,
    model: ImageModel,
    n_samples: int | None,
    *,
    extractor: str | Path | None,
    given: str | Path | None,
    kept: str | Path | None,
) -> _Distance | None:
    """Return the Fréchet distance that was asked for, None if nothing asks for one."""
    if all(option is None for option in (n_samples, extractor, given, kept)):
        return None
    features = (
        RandomFeatures(model.device)
        if extractor is None
        else TorchScriptFeatures(extractor, model.device)
    )
    n_samples = len(images) if n_samples is None else n_samples
    if n_samples < 2:
        raise VocoderError(f"samples {n_samples}: a Fréchet distance needs at least 2")
    real = _real_features(images, model.images.n_values, features, given, kept)
    return _Distance(real, features, n_samples)


def _real_features(
    images: Images,
    n_values: int,
    features: Extractor,
    statistics: str | Path | None,
    save_statistics: str | Path | None,
) -> Gaussian:
    """Return the features to compare with, and save those of the images where that is wanted."""
    given = None if statistics is None else read_statistics(statistics)
    if given is not None and save_statistics is None:
        return given
    real = fit_gaussian(_batches(images), n_values, features)
    if save_statistics is not None:
        write_statistics(save_statistics, real)
    return given or real


def _batches(images: Images) -> Iterator[Tensor]:
    for first in range(0, len(images), BATCH_SIZE):
        yield torch.from_numpy(images[slice(first, first + BATCH_SIZE)])
