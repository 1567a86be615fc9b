"""The Fréchet distance between two sets of images: between Gaussians fitted to their features.

It is the FID only with the Inception weights and the resizing that others used, none of which
comes with this package. A figure is always told with the name of the features behind it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vocoder.errors import VocoderError, reason
from vocoder.files.arrays import load_npz
from vocoder.files.atomic import atomic_path, check_place

log = logging.getLogger("vocoder")
Matrix = npt.NDArray[np.float64]


# ---- statistics ----


class FeatureStatistics:
    """Count, mean and covariance of features, in float64; sets may come in any number of parts.

    Args:
        n_features: Number D of features.
    """

    def __init__(self, n_features: int) -> None:
        self.count = 0
        self.mean: Matrix = np.zeros(n_features)
        self._scatter: Matrix = np.zeros((n_features, n_features))  # sum of outer products

    def add(self, features: Tensor) -> None:
        """Take in the features (B, D) of some images.

        Raises:
            VocoderError: they are not (B, D), or NaN or infinite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise VocoderError(
                f"features: shape {tuple(features.shape)}, not (B, {len(self.mean)})"
            )
        values = features.detach().double().cpu().numpy()
        if not np.isfinite(values).all():
            n_bad = int((~np.isfinite(values)).any(axis=1).sum())
            raise VocoderError(f"features: NaN or infinite for {n_bad} of {len(values)} images")
        if not len(values):
            return
        part = FeatureStatistics(len(self.mean))
        part.count = len(values)
        part.mean = values.mean(axis=0)
        part._scatter = (values - part.mean).T @ (values - part.mean)
        self.merge(part)

    def merge(self, other: FeatureStatistics) -> None:
        """Take in what another has seen (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        if not count:
            return
        difference = other.mean - self.mean
        weight = self.count * other.count / count
        self._scatter = self._scatter + other._scatter + weight * np.outer(difference, difference)
        self.mean = self.mean + difference * (other.count / count)
        self.count = count

    @property
    def covariance(self) -> Matrix:
        """The unbiased covariance (D, D)."""
        if self.count < 2:
            raise VocoderError(f"a covariance needs at least 2 images, not {self.count}")
        return self._scatter / (self.count - 1)

    def gaussian(self) -> Gaussian:
        """Return what a distance needs; warn where the images are too few to tell D directions."""
        if self.count <= len(self.mean):
            log.warning(
                "%d images for %d features: the covariance is singular, the distance biased",
                self.count,
                len(self.mean),
            )
        return Gaussian(self.mean, self.covariance, self.count)


class Gaussian:
    """A Gaussian fitted to features.

    Args:
        mean: Mean (D,) of the features.
        covariance: (D, D), symmetric and positive semi-definite.
        count: Number of the images behind it, where known.

    Raises:
        VocoderError: the arrays do not fit each other, or are not finite.
    """

    def __init__(self, mean: Matrix, covariance: Matrix, count: int | None = None) -> None:
        if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
            raise VocoderError(
                f"statistics: mean {mean.shape} and covariance {covariance.shape} do not fit"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise VocoderError("statistics: hold NaN or infinite values")
        if not np.allclose(
            covariance, covariance.T, rtol=1e-5, atol=1e-8 * np.abs(covariance).max()
        ):
            raise VocoderError("statistics: the covariance is not symmetric")
        self.mean = mean
        self.covariance = covariance
        self.count = count


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Return the squared Fréchet distance |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½).

    The trace of the root of S1 S2, which is not symmetric, is that of S1^½ S2 S1^½, which is: no
    root of a general matrix is needed, nor anything added to singular ones (Dowson and Landau,
    1982).

    Raises:
        VocoderError: they are of different numbers of features.
    """
    if len(first.mean) != len(second.mean):
        raise VocoderError(
            f"statistics: of {len(first.mean)} and {len(second.mean)} features; "
            "take both from one extractor"
        )
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ second.covariance @ root).clip(min=0)
    distance = np.square(first.mean - second.mean).sum()
    distance += np.trace(first.covariance) + np.trace(second.covariance)
    return float(max(0.0, distance - 2 * np.sqrt(cross).sum()))


def check_statistics_path(path: str | os.PathLike[str]) -> None:
    """Refuse a place that `write_statistics` cannot write to, before the work for it is done.

    Raises:
        VocoderError: the file's name does not end in .npz, it is a folder, or its own is not there.
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise VocoderError(f"{path}: statistics go into an .npz file")
    check_place(path)


def write_statistics(path: str | os.PathLike[str], gaussian: Gaussian) -> None:
    """Write an .npz that pytorch-fid reads: `mu`, `sigma`, and where known `n`, which it ignores.

    Raises:
        VocoderError: the file's name does not end in .npz, it is a folder, or its own is not there.
        OSError: the file cannot be written.
    """
    check_statistics_path(path)
    arrays = {"mu": gaussian.mean, "sigma": gaussian.covariance}
    if gaussian.count is not None:
        arrays["n"] = np.array(gaussian.count)
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]  # numpy takes it for allow_pickle


def read_statistics(path: str | os.PathLike[str]) -> Gaussian:
    """Read an .npz of pytorch-fid's, with `mu` (D,) and `sigma` (D, D), or one of ours.

    Raises:
        VocoderError: it is missing, damaged or holds something else.
    """
    arrays = load_npz(Path(path))
    try:
        mean, covariance = (np.asarray(arrays[name], np.float64) for name in ("mu", "sigma"))
        return Gaussian(mean, covariance, int(arrays["n"]) if "n" in arrays else None)
    except VocoderError as error:
        raise VocoderError(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise VocoderError(
            f"{path}: not statistics with `mu` and `sigma` ({reason(error)})"
        ) from None


# ---- features ----


class Extractor(Protocol):
    """Turns images into features, and says what figures from them are called."""

    name: str  # such as "random features"

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of uint8 images (B, 3, H, W) of 256 values."""


class RandomFeatures:
    """Features of an untrained network with fixed weights: free of downloads, and of meaning.

    They tell distributions apart, and serve to test; how they rank models says nothing of how
    people would.

    Args:
        device: Device to compute on.
    """

    name = "random features"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        generator = torch.Generator().manual_seed(0)
        layers: list[nn.Module] = []
        for n_in, n_out in ((3, 32), (32, 64), (64, 64)):
            layer = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
            with torch.no_grad():
                weight = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(weight * (2 / (9 * n_in)) ** 0.5)
            layers += [layer, nn.ReLU()]
        self.device = torch.device(device)
        self.network = nn.Sequential(*layers).to(self.device).requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the means of 64 maps, (B, 64)."""
        x = images.to(self.device).float() / 127.5 - 1
        features: Tensor = self.network(x).mean(dim=(2, 3))
        return features


class TorchScriptFeatures:
    """Features of a network in a TorchScript file of the caller's.

    **Loading such a file runs the code in it**, as importing a module does: take only files that
    you trust. Nothing is ever loaded but a path that was given for this purpose.

    The network gets uint8 images (B, 3, H, W) and is to return (B, D); scaling and resizing are its
    own matter. One that takes `return_features`, as NVIDIA's inception-2015-12-05.pt does, gets it
    as True.

    Args:
        path: Path of the file.
        device: Device to compute on.

    Raises:
        VocoderError: there is no such file, or it is not TorchScript.
    """

    def __init__(self, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise VocoderError(f"{self.path}: no such file")
        try:
            with warnings.catch_warnings():
                # Deprecated as a way to export, and still the format of all published extractors.
                warnings.simplefilter("ignore", FutureWarning)
                self.network = torch.jit.load(self.path, map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise VocoderError(
                f"{self.path}: not a TorchScript network ({reason(error)})"
            ) from None
        self.device = torch.device(device)
        arguments = {argument.name for argument in self.network.forward.schema.arguments}
        self.options = {"return_features": True} if "return_features" in arguments else {}
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.name = f"features of {self.path.name}, sha256 {digest[:12]}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network makes of the images, (B, D)."""
        try:
            features = self.network(images.to(self.device), **self.options)
        except RuntimeError as error:
            end = " ".join(str(error).split())[-200:]  # the cause comes after TorchScript's trace
            raise VocoderError(f"{self.path}: fails on images ({end})") from None
        is_batch = isinstance(features, Tensor) and features.ndim >= 2
        if not is_batch or len(features) != len(images):
            raise VocoderError(f"{self.path}: did not return features (B, D)")
        return features.flatten(1)


def fit_gaussian(batches: Iterable[Tensor], n_values: int, extractor: Extractor) -> Gaussian:
    """Return the Gaussian of the features of images.

    Args:
        batches: uint8 (B, C, H, W), C being 1 or 3, of values below `n_values`. They are stretched
            to 256 values, and grey ones become three equal channels.
        n_values: how many values a pixel can have.
        extractor: Extractor of the features.

    Raises:
        VocoderError: there are fewer than two images, or features that are not finite.
    """
    statistics: FeatureStatistics | None = None
    for batch in batches:
        stretched = (batch.float() * 255 / (n_values - 1)).round().to(torch.uint8)
        features = extractor(stretched.expand(-1, 3, -1, -1))
        statistics = statistics or FeatureStatistics(features.shape[1])
        statistics.add(features)
    if statistics is None:
        raise VocoderError("no images to take features from")
    return statistics.gaussian()
