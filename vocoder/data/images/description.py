"""What a checkpoint says of the images that its model learnt, and finding the like again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vocoder.data.images.sets import ImageSet, open_images
from vocoder.errors import VocoderError


@dataclass(frozen=True)
class ImageDescription:
    """Images as a model sees them; bits/dim compare only where data set, variant and shape agree.

    Two data sets share the name ImageNet 32 × 32, hence `variant`; padding counts as dimensions and
    costs next to nothing, hence `shape`.
    """

    shape: tuple[int, ...]  # (C, H, W), padding included
    n_values: int = 256  # that a pixel can have
    dataset: str = ""
    variant: str = ""  # of the data set, where several share its name
    side: int = 0  # that images were padded to; 0: they were not
    n_validation: int = 0  # training images that only selected the model
    seed: int = 0  # of their choice
    fingerprint: str = ""  # of the data set

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be (C, H, W), got {self.shape}")
        if not 2 <= self.n_values <= 256:
            raise ValueError(f"n_values must be 2 to 256, got {self.n_values}")

    def __str__(self) -> str:
        title = f"{self.dataset} ({self.variant})" if self.variant else self.dataset
        return f"{title or 'unknown images'} {shape_text(self.shape)}, {self.n_values} values"

    @classmethod
    def of(cls, images: ImageSet, side: int, seed: int) -> ImageDescription:
        """Describe an opened data set; `side` and `seed` are those that it was opened with."""
        return cls(
            shape=images.image_shape,
            n_values=images.n_values,
            dataset=images.name,
            variant=images.variant,
            side=side,
            n_validation=len(images.validation),
            seed=seed,
            fingerprint=images.fingerprint,
        )

    def open(self, path: Path | None) -> ImageSet:
        """Open images of this kind for their test images; none is held out for validation.

        So they may be fewer than the model had to be selected by.

        Args:
            path: Path of the images; None where they come with a library.

        Raises:
            VocoderError: the images there are of another shape, variant or number of values, or
                the description names no data set.
        """
        if not self.dataset:
            raise VocoderError(
                "the checkpoint does not tell which images its model was trained on; only "
                "`vocoder sample` without images can use it"
            )
        images = open_images(self.dataset, path, n_validation=0, seed=self.seed, side=self.side)
        found = ImageDescription.of(images, self.side, self.seed)
        if (found.shape, found.n_values, found.variant) != (
            self.shape,
            self.n_values,
            self.variant,
        ):
            raise VocoderError(f"{path}: holds {found}, the model was trained on {self}")
        return images


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape (C, H, W) in words, such as "3x32x32"."""
    return "x".join(map(str, shape))
