"""Triangular filters from the bins of a spectrum to mel bands."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import numpy.typing as npt


@functools.lru_cache(maxsize=64)
def triangular_filters(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float,
    f_max: float,
    scale: Literal["slaney", "htk"],
    norm: Literal["slaney", "none"],
) -> npt.NDArray[np.float64]:
    """Return the filters (M, n_fft//2 + 1), read-only.

    Args:
        sample_rate: Sampling rate of the audio in Hz.
        n_fft: Length of the transform in samples.
        n_mels: Number of bands M.
        f_min: Lower edge of the lowest band in Hz.
        f_max: Upper edge of the highest band in Hz.
        scale: Formula from frequency to mel.
        norm: "slaney" gives every filter the same area, "none" the same height.
    """
    import librosa.filters

    filters = librosa.filters.mel(
        sr=sample_rate,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=f_min,
        fmax=f_max,
        htk=scale == "htk",
        norm=None if norm == "none" else norm,
        dtype=np.float64,
    )
    filters.flags.writeable = False
    return filters
