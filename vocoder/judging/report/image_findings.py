"""What a report of an image model shows: figures, the dearest images, and what the model draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vocoder.data.images.dequantise import middles, noisy_images
from vocoder.data.images.sets import Images
from vocoder.images.pictures import count_non_finite, grid
from vocoder.images.sampling import WAY, ImageModel
from vocoder.judging.report.charts import Curve
from vocoder.judging.training_log import TrainingLog

TEMPERATURES = (1.0, 0.8)
_N_SAMPLES, _N_RECONSTRUCTED, _N_WAYS = 64, 32, 8
_SAMPLE_COLUMNS, _PAIR_COLUMNS = 8, 8
# A figure in the log, by its name on the page.
_CURVES = {"training": "train/bits_per_dim", "validation": "validation/bits_per_dim"}


@dataclass(frozen=True)
class ScoredImage:
    """A test image and what it cost."""

    place: int  # in the test split, counted from 0
    bits: float  # bits/dim
    pixels: npt.NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class Drawing:
    """A picture that the model made."""

    name: str
    caption: str
    pixels: npt.NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class ImageFindings:
    """All that the page of an image model shows."""

    name: str  # path of the model
    figures: Mapping[str, Any]
    bits: npt.NDArray[np.float64]  # (N,), bits/dim of each test image
    dearest: Sequence[ScoredImage]  # worst first
    cheapest: Sequence[ScoredImage]  # best first
    drawings: Sequence[Drawing]
    curves: Mapping[str, Curve]  # of the training, if it left a log


def look(
    model: ImageModel,
    name: str,
    images: Images,
    figures: Mapping[str, Any],
    bits: Tensor,
    *,
    seed: int,
    n_examples: int,
) -> ImageFindings:
    """Gather what the page of an image model shows.

    Args:
        model: The model that draws.
        name: The path that it was loaded from; in the folder of a run lies its log.
        images: The test images that were scored.
        figures: What the scoring gave.
        bits: Bits/dim (N,) of each image.
        seed: Seed of the noise.
        n_examples: Number of dearest images, and of cheapest ones.
    """
    values = bits.numpy().astype(np.float64)
    order = np.argsort(-np.nan_to_num(values, nan=np.inf), kind="stable")
    n_values = model.images.n_values

    def scored(places: npt.NDArray[np.int64]) -> list[ScoredImage]:
        pixels = middles(images[places], n_values)
        return [
            ScoredImage(int(place), float(values[place]), grid(image[None], n_values))
            for place, image in zip(places, pixels, strict=True)
        ]

    log = TrainingLog.read(name)
    curves = {title: log.series(key) for title, key in _CURVES.items()}
    return ImageFindings(
        name=name,
        figures=figures,
        bits=values,
        dearest=scored(order[:n_examples]),
        cheapest=scored(order[::-1][:n_examples]),
        drawings=_drawings(model, images, seed),
        curves={title: curve for title, curve in curves.items() if len(curve[0])},
    )


def _drawings(model: ImageModel, images: Images, seed: int) -> list[Drawing]:
    """Draw samples, reconstructions and ways between test images."""
    n_values = model.images.n_values

    def drawing(name: str, caption: str, x: Tensor, n_columns: int) -> Drawing:
        broken = count_non_finite(x)
        caption += f" {broken} hold NaN or infinite values, shown in magenta." if broken else ""
        return Drawing(name, caption, grid(x, n_values, n_columns=n_columns))

    drawings = [
        drawing(
            f"Samples at temperature {temperature:g}",
            f"{_N_SAMPLES} images of one draw of noise; none was chosen.",
            model.sample(_N_SAMPLES, temperature=temperature, seed=seed),
            _SAMPLE_COLUMNS,
        )
        for temperature in TEMPERATURES
    ]
    places = np.random.default_rng(seed).permutation(len(images))

    def noisy(count: int) -> Tensor:
        return noisy_images(images, places[:count].tolist(), n_values, seed=seed)

    drawings.append(
        drawing(
            "Reconstructions",
            "Each test image, and on its right what its noise decodes to: the same, if the model "
            "inverts.",
            model.reconstruct(noisy(min(_N_RECONSTRUCTED, len(images)))),
            _PAIR_COLUMNS,
        )
    )
    n_ways = min(_N_WAYS, len(images) // 2)
    if n_ways:
        drawings.append(
            drawing(
                "Interpolations",
                "Each row leads from one test image to another along the great circle of their "
                "noise.",
                model.interpolate(noisy(2 * n_ways), WAY, "spherical"),
                WAY,
            )
        )
    return drawings
