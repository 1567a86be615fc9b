"""Training a model of images: dequantised batches, scored on validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocoder.data.images.batches import ImageBatches
from vocoder.data.images.dequantise import noisy_images
from vocoder.data.images.description import ImageDescription, shape_text
from vocoder.data.images.sets import Images, open_images
from vocoder.errors import VocoderError
from vocoder.images.pictures import grid
from vocoder.judging.bits_per_dim import bits_per_dim, inversion_error, nats_to_bits
from vocoder.models.families.flow import nats_per_dim
from vocoder.models.families.image_flow import ImageFlow
from vocoder.recipe import ImageRecipe
from vocoder.training.logger import RunLogger
from vocoder.training.task import Score, Task

INVERTED_IMAGES = 8
PICTURED_SAMPLES = 64


class ImageTask(Task[ImageFlow]):
    """Images without any conditioning.

    The test images are never looked at: the validation images select the model.

    Args:
        recipe: the model to train, on which images, and how to train it.
        path: Path of the images; None where they come with a library.

    Raises:
        VocoderError: the images are not there, or do not fit the recipe.
    """

    unit = examples = "images"
    smaller = "the size of the model"
    data: ImageDescription

    def __init__(self, recipe: ImageRecipe, path: Path | None) -> None:
        wanted, self.train = recipe.images, recipe.train
        images = open_images(
            wanted.dataset,
            path,
            n_validation=wanted.n_validation,
            seed=wanted.seed,
            side=wanted.side,
        )
        if wanted.variant and wanted.variant != images.variant:
            raise VocoderError(
                f"{path}: is {images.name} of {images.variant}, the recipe wants {wanted.variant}, "
                "and bits/dim of the two do not compare; set images.variant to train on these"
            )
        shape = recipe.config.image_shape
        if shape != images.image_shape:
            raise VocoderError(
                f"{path or wanted.dataset}: images are {shape_text(images.image_shape)}, the "
                f"recipe's model is for {shape_text(shape)}; set model.image_channels, "
                "image_height and image_width, or images.side"
            )
        self.data = ImageDescription.of(images, wanted.side, wanted.seed)
        self.batches = ImageBatches(
            images.train, images.n_values, self.train.seed, wanted.augmentation
        )
        chosen = images.validation
        self.validation = Images(chosen.array, chosen.rows[: self.train.eval_images], chosen.side)
        self.units_per_step = self.train.batch_size
        self.facts = {
            "dataset": images.name,
            "fingerprint": images.fingerprint,
            "images": len(images.train),
        }

    def batch(self, step: int, rank: int, n_ranks: int) -> tuple[Tensor]:
        """Return one process's share of the images of a step."""
        return (self.batches.batch(step, self.train.batch_size, rank, n_ranks),)

    def loss(self, model: ImageFlow, batch: tuple[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood of the noisy images in nats per dimension."""
        loss = nats_per_dim(*model(*batch))
        return loss, {"bits_per_dim": nats_to_bits(loss.detach(), self.data.n_values)}

    def initialise(self, model: ImageFlow, device: torch.device) -> None:
        """Set the normalisations by the first batch of all processes together."""
        (images,) = self.batch(0, 0, 1)
        model.initialise(images.to(device))

    def step_metrics(self, model: ImageFlow, batch: tuple[Tensor]) -> dict[str, Any]:
        """Return nothing: the loss says all."""
        return {}

    def evaluate(self, model: ImageFlow) -> Score | None:
        """Score the validation images."""
        if not len(self.validation):
            return None
        seed, device = self.train.seed, next(model.parameters()).device
        score = bits_per_dim(model, self.validation, self.data.n_values, seed=seed)
        some = range(min(INVERTED_IMAGES, len(self.validation)))
        x = noisy_images(self.validation, some, self.data.n_values, seed=seed)
        metrics = {
            "validation/bits_per_dim": score.mean,
            "validation/inversion_error": inversion_error(model, x.to(device)),
        }
        return Score(metrics, -score.mean)

    @torch.inference_mode()
    def show(self, model: ImageFlow, logger: RunLogger, step: int) -> None:
        """Log a grid of samples, of the same noise every time."""
        noise = torch.Generator().manual_seed(self.train.seed)
        eps = torch.randn(PICTURED_SAMPLES, model.n_dims, generator=noise)
        x = model.inverse(eps.to(next(model.parameters()).device))
        logger.picture(step, "samples", grid(x, self.data.n_values))
