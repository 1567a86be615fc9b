"""Stationary lines at multiples of rate/H, which flows over H rows of samples tend to add.

Each of the H rows gets its own constant error, and an error of period H samples is a set of tones
at k·rate/H: the hum of WaveGlow (NVIDIA/waveglow#39), which stands out where the speaker pauses.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from vocoder.judging.metrics.pair import UndefinedFigureError, aligned_pair

_WINDOW = 0.093  # seconds
_QUIET = 0.2  # of the frames of the reference
# Bins from a line to the middles of the bands that it is compared with, each band as wide as the
# line's own; two to a side, so that a slope of the spectrum cancels.
_NEIGHBOURS = (-10, -5, 5, 10)
_HALF_WIDTH = 2  # bins; the main lobe of the Hann window


def tone_levels(
    audio: npt.ArrayLike, sample_rate: int, n_height: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return by how much each line k·rate/H stands out of its neighbourhood, over all the audio.

    The level of a line is the power in a band of 5 bins, 54 Hz at a rate of 22,050 Hz, over the
    geometric mean of the powers of four bands of that width beside it.

    Args:
        audio: Audio (N,) to look at.
        sample_rate: Sample rate in Hz.
        n_height: H, rows that a flow folds its audio into; 3 or more.

    Returns:
        Frequencies (K,) in Hz and levels (K,) in dB, of the lines between 0 Hz and rate/2.

    Raises:
        VocoderError: the audio is not one channel of numbers.
        UndefinedFigureError: it is shorter than a window, about 93 ms, or no line is below rate/2.
    """
    samples, _ = aligned_pair(audio, audio, sample_rate)
    ratios = _ratios(_powers(samples, sample_rate, n_height).mean(axis=1), n_height)
    frequencies = np.arange(1, len(ratios) + 1) * sample_rate / n_height
    return frequencies, 10 * np.log10(ratios)


def tone_bias(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int, n_height: int
) -> float:
    """Return how much more the lines at k·rate/H stand out than in the reference, in dB, 0 or more.

    Taken in the quietest fifth of the reference's frames of 93 ms. The levels of `tone_levels` are
    averaged over the lines as powers, so that one strong line shows.

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz.
        n_height: H, rows that the flow folds its audio into; 3 or more.

    Raises:
        VocoderError: they do not fit each other.
        UndefinedFigureError: they are shorter than a window, or no line is below rate/2.
    """
    pair = aligned_pair(reference, estimate, sample_rate)
    powers = [_powers(audio, sample_rate, n_height) for audio in pair]
    loudness = powers[0].sum(axis=0)
    n_quiet = math.ceil(_QUIET * len(loudness))
    quiet = np.argsort(loudness, kind="stable")[:n_quiet]
    before, after = (_ratios(power[:, quiet].mean(axis=1), n_height).mean() for power in powers)
    return float(max(0.0, 10 * np.log10(after / before)))


def _powers(
    audio: npt.NDArray[np.float64], sample_rate: int, n_height: int
) -> npt.NDArray[np.float64]:
    """Return power spectra (K, T) of frames fine enough to tell neighbouring lines apart."""
    if n_height < 3:
        raise UndefinedFigureError(
            f"n_height: is {n_height}; lines below rate/2 want 3 rows or more"
        )
    # A multiple of 2H, so that each line falls on a bin, and of 16 bins from line to line at least.
    n_fft = 2 * n_height * max(8, round(_WINDOW * sample_rate / (2 * n_height)))
    if len(audio) < n_fft:
        raise UndefinedFigureError(f"tone_bias: {len(audio)} samples are too few; it wants {n_fft}")
    spectrum = torch.stft(
        torch.from_numpy(audio.copy()),
        n_fft,
        hop_length=n_fft // 4,
        window=torch.hann_window(n_fft, dtype=torch.float64),
        center=False,
        return_complex=True,
    )
    return spectrum.abs().square().numpy()


def _ratios(power: npt.NDArray[np.float64], n_height: int) -> npt.NDArray[np.float64]:
    """Return the power of each line over that of its neighbourhood, in a spectrum (K,)."""
    n_fft = 2 * (len(power) - 1)
    # Far below any sound of 16 bits; digital silence has no lines.
    padded = power + 1e-14 * n_fft
    bands = np.convolve(padded, np.ones(2 * _HALF_WIDTH + 1), mode="same")
    lines = np.arange(1, (n_height + 1) // 2) * (n_fft // n_height)
    neighbours = np.stack([np.log(bands[lines + offset]) for offset in _NEIGHBOURS])
    return bands[lines] / np.exp(neighbours.mean(axis=0))
