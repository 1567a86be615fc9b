"""Spectrograms as small pictures."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch

from vocoder.files.png import encode_png

RANGE_DB = 80.0  # from the recording's loudest bin down to black
_LEVELS = 64  # colours; more would only make the files larger
_MAX_COLUMNS = 900


def spectrogram_png(
    audio: npt.NDArray[np.float64], sample_rate: int, reference: npt.NDArray[np.float64]
) -> bytes:
    """Return a PNG of the power spectrum, 0 Hz at the bottom and rate/2 at the top.

    Args:
        audio: Audio (N,) to look at.
        sample_rate: Sample rate in Hz.
        reference: (N,); its loudest bin is the brightest colour, so that pictures compare.
    """
    power = _power(audio, sample_rate)
    loudest = max(float(_power(reference, sample_rate).max()), 1e-20)
    decibels = 10 * np.log10(np.maximum(power / loudest, 1e-30))
    levels = np.clip(1 + decibels / RANGE_DB, 0, 1) * (_LEVELS - 1)
    return encode_png(np.rint(levels[::-1]).astype(np.uint8), palette())


def _power(audio: npt.NDArray[np.float64], sample_rate: int) -> npt.NDArray[np.float64]:
    """Return the power (256 or so, T) with two bins to a row; frames of about 46 ms."""
    n_fft = 2 ** round(math.log2(0.046 * sample_rate))
    spectrum = torch.stft(
        torch.from_numpy(audio.copy()),
        n_fft,
        hop_length=max(n_fft // 4, math.ceil(len(audio) / _MAX_COLUMNS)),
        window=torch.hann_window(n_fft, dtype=torch.float64),
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.abs().square()[:-1]
    return power.unflatten(0, (-1, 2)).mean(dim=1).numpy()


@functools.cache
def palette() -> npt.NDArray[np.uint8]:
    """Return colours (64, 3) from dark violet to pale yellow whose lightness rises evenly.

    Evenly in OKLab (Ottosson, 2020), so that equal steps in dB look equal, also in grey.
    """
    x = np.linspace(0, 1, _LEVELS)
    lightness = 0.13 + 0.83 * x
    hue = np.deg2rad(285 + 175 * x)  # violet, red, yellow
    chroma = 0.02 + 0.16 * np.sin(np.pi * x**0.9)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lms = [
        (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3,
        (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3,
        (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3,
    ]
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_rgb @ np.stack(lms), 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.ascontiguousarray(np.rint(encoded.T * 255).astype(np.uint8))
