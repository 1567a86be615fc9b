"""What figures share: two recordings of the same, checked and cut, and the import of an extra."""

from __future__ import annotations

import importlib
import types

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError

_TOLERANCE = 0.1  # seconds by which two recordings of the same may differ in length


class UndefinedFigureError(VocoderError):
    """A sound pair that has no such figure, as two whispers have no error of pitch."""


def checked_audio(name: str, audio: npt.ArrayLike, sample_rate: int) -> npt.NDArray[np.float64]:
    """Return audio (N,) in double precision.

    Args:
        name: what to call it in messages.
        audio: Audio (N,) to look at.
        sample_rate: Sample rate of the audio, in Hz.

    Raises:
        VocoderError: it has another shape, holds nothing or NaN, or has no rate.
    """
    if sample_rate <= 0:
        raise VocoderError(f"sample_rate: is {sample_rate}; give the rate of the audio, in Hz")
    samples = np.asarray(audio, np.float64)
    if samples.ndim != 1:
        raise VocoderError(f"{name}: has shape {samples.shape}; give one channel (N,)")
    if not samples.size or not np.isfinite(samples).all():
        raise VocoderError(f"{name}: is empty, or holds NaN or infinite samples")
    return samples


def aligned_pair(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Check a pair (N,) and cut it to the shorter; vocoders round lengths to whole frames.

    Raises:
        VocoderError: they do not fit each other, hold nothing or NaN, or have no rate.
    """
    pair = (
        checked_audio("reference", reference, sample_rate),
        checked_audio("estimate", estimate, sample_rate),
    )
    lengths = [len(audio) for audio in pair]
    if max(lengths) - min(lengths) > _TOLERANCE * sample_rate:
        raise VocoderError(
            f"estimate: has {lengths[1]} samples, the reference {lengths[0]}; "
            f"they may differ by {_TOLERANCE:g} s"
        )
    return pair[0][: min(lengths)], pair[1][: min(lengths)]


def sounding_pair(
    figure: str, reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the `aligned_pair` of a figure that measures from the level of the reference.

    Raises:
        VocoderError: they do not fit each other, hold nothing or NaN, or have no rate.
        UndefinedFigureError: the reference is digital silence.
    """
    pair = aligned_pair(reference, estimate, sample_rate)
    if not pair[0].any():
        raise UndefinedFigureError(f"{figure}: the reference is silent")
    return pair


def import_extra(module: str, *, package: str | None = None) -> types.ModuleType:
    """Return a library that measures.

    Args:
        module: The module to import, such as "pesq".
        package: What pip calls it, if that is another name.

    Raises:
        VocoderError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise VocoderError(
            f"{package or module}: not installed; run: pip install 'vocoder[metrics]'"
        ) from None
