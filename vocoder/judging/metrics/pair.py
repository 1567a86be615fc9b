"""Two recordings of the same, checked and cut to each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError

_TOLERANCE = 0.1  # seconds by which two recordings of the same may differ in length


class UndefinedFigureError(VocoderError):
    """A sound pair that has no such figure, as two whispers have no error of pitch."""


def aligned_pair(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Check a pair (N,) and cut it to the shorter; vocoders round lengths to whole frames.

    Raises:
        VocoderError: they do not fit each other, hold nothing or NaN, or have no rate.
    """
    if sample_rate <= 0:
        raise VocoderError(f"sample_rate: is {sample_rate}; give the rate of both, in Hz")
    pair = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    for name, audio in zip(("reference", "estimate"), pair, strict=True):
        if audio.ndim != 1:
            raise VocoderError(f"{name}: has shape {audio.shape}; compare one channel (N,)")
        if not audio.size or not np.isfinite(audio).all():
            raise VocoderError(f"{name}: is empty, or holds NaN or infinite samples")
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
