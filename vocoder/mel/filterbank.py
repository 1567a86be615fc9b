"""Triangular filters from the bins of a spectrum to mel bands.

They are those of librosa, which the tests hold them to. Written here since training and synthesis
run where librosa is not installed, such as on a bare machine with a GPU. Sources: the Auditory
Toolbox (Slaney, 1998), and the HTK Book (Young et al., 2002), §5.4.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Slaney's scale is linear up to a break, and logarithmic above it.
_BREAK = 1000.0  # Hz
_LINEAR_STEP = 200 / 3  # Hz of a mel below the break
_LOG_STEP = np.log(6.4) / 27  # of the natural logarithm, of a mel above it


@functools.lru_cache(maxsize=64)
def triangular_filters(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float,
    f_max: float,
    scale: Literal["slaney", "htk"],
    norm: Literal["slaney", "none"],
) -> Floats:
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
    lowest, highest = _to_mel(np.array([f_min, f_max]), scale)
    edges = _to_hertz(np.linspace(lowest, highest, n_mels + 2), scale)
    bins = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    before, middle, after = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - before) / (middle - before)
    falling = (after - bins) / (after - middle)
    filters = np.minimum(rising, falling).clip(min=0)
    if norm == "slaney":
        filters *= 2 / (after - before)
    filters.flags.writeable = False
    return filters


def _to_mel(hertz: Floats, scale: Literal["slaney", "htk"]) -> Floats:
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    linear = hertz / _LINEAR_STEP
    return np.where(
        hertz < _BREAK,
        linear,
        _BREAK / _LINEAR_STEP + np.log(np.maximum(hertz, _BREAK) / _BREAK) / _LOG_STEP,
    )


def _to_hertz(mel: Floats, scale: Literal["slaney", "htk"]) -> Floats:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    corner = _BREAK / _LINEAR_STEP
    above = _BREAK * np.exp(_LOG_STEP * (np.maximum(mel, corner) - corner))
    return np.where(mel < corner, mel * _LINEAR_STEP, above)
