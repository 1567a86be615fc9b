"""Pictures that a model of images makes: samples, reconstructions and interpolations."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vocoder import checkpoint
from vocoder.checkpoint import Checkpoint
from vocoder.data.images.dequantise import noisy_images
from vocoder.data.images.description import ImageDescription, shape_text
from vocoder.device import resolve_device
from vocoder.errors import VocoderError
from vocoder.files.png import write_png
from vocoder.flows.base import full_precision
from vocoder.images.pictures import count_non_finite, grid
from vocoder.models.families.image_flow import ImageFlow
from vocoder.seeds import check_seed

Course = Literal["linear", "spherical"]
# Through the model at once; an autoregressive prior takes many small steps, whatever the batch.
BATCH_SIZE = 64
WAY = 8  # images of an interpolation
LEGIBLE = 32  # pixels that a side of an image has at least in a picture


class ImageModel:
    """A trained model of images.

    Attributes:
        flow: The model itself, in eval mode.
        images: The images that it was trained on.
        checkpoint: All else that the file holds.
    """

    flow: ImageFlow

    def __init__(self, path: str | Path, device: str | torch.device | None = None) -> None:
        self.device = resolve_device(device)
        self.checkpoint: Checkpoint = checkpoint.load(path, self.device)
        self.images: ImageDescription = self.checkpoint.images
        self.flow = self.checkpoint.model  # type: ignore[assignment]  # as the header's images say

    @torch.no_grad()
    def decode(self, eps: Tensor) -> Tensor:
        """Return the images (B, C, H, W) of noise (B, D), on the CPU and not clamped."""
        with full_precision(self.device):
            parts = [
                self.flow.inverse(part.to(self.device)).cpu() for part in eps.split(BATCH_SIZE)
            ]
        return torch.cat(parts)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the noise (B, D) of dequantised images (B, C, H, W), on the CPU."""
        with full_precision(self.device):
            parts = [self.flow(part.to(self.device))[0].cpu() for part in x.split(BATCH_SIZE)]
        return torch.cat(parts)

    def sample(self, n_images: int, *, temperature: float = 1.0, seed: int = 0) -> Tensor:
        """Draw images (n, C, H, W), the same on every device and for every batch size.

        Raises:
            VocoderError: `temperature` is negative or not finite, or `seed` out of range.
        """
        if not 0 <= temperature < math.inf:
            raise VocoderError(f"temperature {temperature}: must be finite and not negative")
        check_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        return self.decode(
            temperature * torch.randn(n_images, self.flow.n_dims, generator=generator)
        )

    def held_out(self, n_images: int, *, data: Path | None, seed: int = 0) -> Tensor:
        """Return some test images, drawn by the seed and dequantised, (n, C, H, W).

        Raises:
            VocoderError: The data is not what the model was trained on, or has fewer images; or
                `seed` is out of range.
        """
        check_seed(seed)
        images = self.images.open(data).test
        if n_images > len(images):
            raise VocoderError(f"{n_images} images wanted, the test split has {len(images)}")
        generator = torch.Generator().manual_seed(seed)
        places = torch.randperm(len(images), generator=generator)[:n_images].tolist()
        return noisy_images(images, places, self.images.n_values, seed=seed)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return images (2 n, C, H, W): each of x, then what its noise decodes to."""
        return torch.stack([x, self.decode(self.encode(x))], dim=1).flatten(0, 1)

    def interpolate(self, x: Tensor, n_steps: int = WAY, along: Course = "linear") -> Tensor:
        """Return images (n n_steps, C, H, W) on the way through the noise between pairs of x.

        Args:
            x: (2 n, C, H, W), a pair after the other.
            n_steps: Images of each way, its two ends included.
            along: Whether to go the straight line, or the great circle, along which noise keeps its
                norm.
        """
        mix = interpolate_linear if along == "linear" else interpolate_spherical
        ends = self.encode(x)
        weights = torch.linspace(0, 1, n_steps)
        ways = [mix(a, b, weights) for a, b in zip(ends[::2], ends[1::2], strict=True)]
        return self.decode(torch.cat(ways))


def interpolate_linear(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Return (1 - w) a + w b for every w: (D,), (D,) and (S,) to (S, D)."""
    return torch.lerp(a, b, weights[:, None])


def interpolate_spherical(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Return points of the arc from a to b: (D,), (D,) and (S,) to (S, D).

    The norm goes evenly from |a| to |b|. A straight line between two draws of N(0, I) passes where
    the norm, nearly constant in many dimensions, is unusually small (White, 2016).
    """
    w = weights[:, None]
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1)
    angle = cosine.acos()
    if angle.sin() < 1e-6:  # nowhere to turn, or every way is the same
        return interpolate_linear(a, b, weights)
    from_a, from_b = ((1 - w) * angle).sin() / angle.sin(), (w * angle).sin() / angle.sin()
    norm = torch.lerp(a.norm(), b.norm(), w)
    return norm * (from_a * a / a.norm() + from_b * b / b.norm())


@dataclass(frozen=True)
class Report:
    """What was drawn.

    Attributes:
        n_images: Number of images in the grid.
        n_non_finite: Number of them with a value that is NaN or infinite.
        size: Size of an image, in words.
        seconds: Seconds that the model took.
    """

    n_images: int
    n_non_finite: int
    size: str
    seconds: float


def sample_grid(
    path: str | Path,
    out: str | Path,
    count: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    show: Literal["samples", "reconstructions", "linear", "spherical"] = "samples",
    data: str | Path | None = None,
    device: str | None = None,
) -> Report:
    """Draw pictures into one PNG file, -0.5 black and 0.5 white whatever they hold.

    Small images are enlarged, each pixel to a square.

    Args:
        path: Path of a checkpoint or run folder.
        out: the PNG file.
        count: samples, test images to reconstruct, or ways from one test image to another.
        temperature: Standard deviation of the samples' noise.
        seed: Seed of the noise, and of the choice of test images.
        show: "reconstructions" puts each test image beside what its noise decodes to; "linear" and
            "spherical" are interpolations, see `ImageModel.interpolate`.
        data: Path of the test images; None where they come with a library.
        device: None is a GPU where there is one.

    Raises:
        VocoderError: the file is not of an image model, or the images are not like its own.
        OSError: the picture cannot be written.
    """
    out = Path(out)
    if out.suffix != ".png":
        raise VocoderError(f"{out}: pictures are written as .png")
    model = ImageModel(path, device)
    columns = None
    if show == "samples":
        started = time.perf_counter()
        x = model.sample(count, temperature=temperature, seed=seed)
    else:
        n_images = count if show == "reconstructions" else 2 * count
        ends = model.held_out(n_images, data=None if data is None else Path(data), seed=seed)
        started = time.perf_counter()
        if show == "reconstructions":
            x, columns = model.reconstruct(ends), 2 * math.ceil(math.sqrt(count / 2))
        else:
            x, columns = model.interpolate(ends, WAY, show), WAY
    seconds = time.perf_counter() - started
    out.parent.mkdir(parents=True, exist_ok=True)
    pixels = grid(x, model.images.n_values, n_columns=columns)
    enlargement = -(-LEGIBLE // max(x.shape[2:]))
    write_png(out, pixels.repeat(enlargement, axis=0).repeat(enlargement, axis=1))
    return Report(len(x), count_non_finite(x), shape_text(model.images.shape), seconds)
