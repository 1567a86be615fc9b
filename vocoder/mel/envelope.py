"""What a mel says of the spectrum itself, whatever its preset: amplitudes, power, autocorrelation.

A mel holds sums over bands, on a scale of its preset's own. Here its values become natural
logarithms of the amplitude at the centre of each band, and, linearly interpolated between centres,
of the amplitude at each bin of the transform.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from vocoder.mel.compression import check_bands, expand
from vocoder.mel.presets import MelPreset

# Autocorrelation at lag 0 that is added: a share of it, which bounds how sharp a filter can be, and
# about the power of rounding to 16 bits, so that silence has a filter too.
LOADING = 1e-4
FLOOR = 1e-9


def log_amplitude(mel: Tensor, preset: MelPreset) -> Tensor:
    """Return the natural logarithm of the amplitude that each band stands for.

    Args:
        mel: Mels (..., M, F) of the preset, in float32 or float64.
        preset: The preset of the mels.

    Returns:
        Logarithms (..., M, F) of the mean |X| over a band, weighted by its filter. X is the
        transform that `MelPreset` describes.

    Raises:
        VocoderError: the mel has not the bands of the preset.
    """
    check_bands(mel, preset)
    tiny = max(preset.floor, 1e-12)
    if preset.log == "none":
        x = expand(mel, preset).clamp_min(tiny).log()
    else:  # without the way through the exponential, which is slow and may overflow
        base = 1.0 if preset.log == "ln" else math.log(10)
        x = ((mel - preset.shift) * (base / preset.scale)).clamp_min(math.log(tiny))
    weights = torch.tensor(band_sums(preset), dtype=mel.dtype, device=mel.device)
    x = x - weights.clamp_min(torch.finfo(mel.dtype).tiny).log()[:, None]
    # The root of a band's mean power is above its mean amplitude, by 2/√π where the sound is noise.
    return x if preset.spectrum == "magnitude" else x / 2 + math.log(math.pi) / 2 - math.log(2)


def interpolate_bands(values: Tensor, preset: MelPreset) -> Tensor:
    """Interpolate values at the centres of bands linearly over the bins of the transform.

    Args:
        values: Values (..., M, F), one for each band.
        preset: The preset whose bands they are.

    Returns:
        Values (..., F, K) with K = n_fft/2 + 1 bins; beyond the outer centres they stay constant.
    """
    matrix = torch.tensor(_interpolation(preset), dtype=values.dtype, device=values.device)
    return values.movedim(-2, -1) @ matrix


def heard_bins(preset: MelPreset) -> Tensor:
    """Return which bins (K,) of the transform a band sees; the mel says nothing of the others."""
    return torch.from_numpy(preset.filterbank().any(axis=0))


def autocorrelation(mel: Tensor, preset: MelPreset, order: int) -> Tensor:
    """Return the autocorrelation of the sound in each frame.

    Args:
        mel: Mels (..., M, F) of the preset, in float32 or float64.
        preset: The preset of the mels.
        order: The longest lag p in samples; at most n_fft/2.

    Returns:
        Autocorrelations (..., F, p + 1) at the lags 0 to p, per sample of full scale 1. With a
        little added at lag 0 they are positive definite, also where the mel is silent.
    """
    power = (2 * interpolate_bands(log_amplitude(mel, preset), preset)).exp()
    cosines = torch.tensor(_cosines(preset, order), dtype=mel.dtype, device=mel.device)
    r = power @ cosines
    return torch.cat([r[..., :1] * (1 + LOADING) + FLOOR, r[..., 1:]], dim=-1)


def frame_centre(preset: MelPreset) -> int:
    """Return the sample, counted from the start f · hop of frame f, that its window is centred on.

    It is that of audio whose length is a multiple of the hop length.
    """
    return preset.n_fft // 2 - preset.pad_widths(preset.hop_length)[0]


def bin_shares(preset: MelPreset) -> np.ndarray:
    """Return what each |X|² at the bins (K,) adds to the power of the sound, per sample."""
    n_fft = preset.n_fft
    bins = np.arange(n_fft // 2 + 1)
    twice = np.where((bins == 0) | (bins == n_fft // 2), 1.0, 2.0)  # bins of both signs
    window_power = 3 / 8 * preset.win_length  # the sum of the squares of a periodic Hann window
    return twice / (n_fft * window_power)


@functools.lru_cache(maxsize=64)
def band_sums(preset: MelPreset) -> np.ndarray:
    """Return the sum (M,) of each filter; that of the next one where a filter holds no bin."""
    sums: np.ndarray = preset.filterbank().sum(axis=1)
    full = np.flatnonzero(sums)
    return sums[full[np.searchsorted(full, np.arange(len(sums))).clip(max=len(full) - 1)]]


@functools.lru_cache(maxsize=64)
def _interpolation(preset: MelPreset) -> np.ndarray:
    """Return the matrix (M, K) from values at the centres of bands to values at bins."""
    filters = preset.filterbank()
    bins = np.arange(filters.shape[1])
    full = np.flatnonzero(filters.any(axis=1))  # a narrow filter may hold no bin at all
    centres = filters[full] @ bins / filters[full].sum(axis=1)
    matrix = np.zeros(filters.shape)
    for row, band in enumerate(full):
        matrix[band] = np.interp(bins, centres, np.eye(len(full))[row])
    return matrix


@functools.lru_cache(maxsize=64)
def _cosines(preset: MelPreset, order: int) -> np.ndarray:
    """Return the matrix (K, p + 1) from |X|² at the bins to autocorrelations per sample."""
    lags = np.arange(order + 1)
    shares = bin_shares(preset)
    cosines: np.ndarray = np.cos(2 * np.pi * np.outer(np.arange(len(shares)), lags) / preset.n_fft)
    return shares[:, None] * cosines
