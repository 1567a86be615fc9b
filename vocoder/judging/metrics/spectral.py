"""Distances of spectra."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.judging.metrics.pair import aligned_pair, sounding_pair
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.mel.spectrogram import MelSpectrogram

_MCD_BANDS = 80
_MCD_ORDER = 24


def log_spectral_distance(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> float:
    """Return the log-spectral distance in dB.

    The root mean square over frequency of the difference of the log power spectra, averaged over
    frames of about 46 ms; both are floored 100 dB below the reference's loudest bin, so that
    digital silence between words does not count for everything.

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz.

    Raises:
        VocoderError: they do not fit each other, or hold nothing or NaN.
        UndefinedFigureError: the reference is digital silence, which has no loudest bin.
    """
    pair = sounding_pair("log_spectral_distance", reference, estimate, sample_rate)
    first, second = _power_levels(*pair, sample_rate)
    return (first - second).square().mean(dim=0).sqrt().mean().item()


def mel_distance(
    reference: npt.ArrayLike,
    estimate: npt.ArrayLike,
    sample_rate: int,
    *,
    preset: MelPreset | str = "tacotron2-22k",
) -> float:
    """Return the mean absolute difference of the mel-spectrograms, in the preset's unit (nats).

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz; the preset's.
        preset: Preset of the mels that are compared.

    Raises:
        VocoderError: they do not fit each other or the preset, or hold nothing or NaN.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    if sample_rate != preset.sample_rate:
        raise VocoderError(
            f"sample_rate: is {sample_rate}, preset {preset.name} has {preset.sample_rate}; "
            "resample the audio or name another preset"
        )
    pair = np.stack(aligned_pair(reference, estimate, sample_rate))
    first, second = MelSpectrogram(preset)(torch.from_numpy(pair))
    return (first - second).abs().mean().item()


def mel_cepstral_distortion(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> float:
    """Return the mel-cepstral distortion in dB (Kubichek, 1993), without the level of a frame.

    (10 / ln 10) · √(2 Σ_d (c_d − c'_d)²) for d = 1 to 24, averaged over frames of about 46 ms. The
    c_d are the cosine coefficients of the log magnitudes of 80 mel bands from 0 Hz to rate/2, log
    magnitude = Σ_d c_d cos(π d (k + ½) / 80), so that the figure is the root mean square difference
    of two smooth spectra along the mel scale. A vocoder keeps time, so no warping aligns the two.
    Floored as `log_spectral_distance` is.

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz.

    Raises:
        VocoderError: they do not fit each other, or hold nothing or NaN.
        UndefinedFigureError: the reference is digital silence, which has no loudest bin.
    """
    pair = sounding_pair("mel_cepstral_distortion", reference, estimate, sample_rate)
    filters, cosines = _cepstral_transform(sample_rate, _n_fft(sample_rate))
    first, second = _power_levels(*pair, sample_rate, filters)  # dB of the powers: 20 log10 |X|
    # (20 / ln 10) · √(½ Σ Δc²) in dB of log magnitudes is √(½ Σ Δ²) of coefficients in dB.
    return (cosines @ (first - second)).square().sum(dim=0).div(2).sqrt().mean().item()


def _n_fft(sample_rate: int) -> int:
    """Return the samples of a window of about 46 ms."""
    return 2 ** round(math.log2(0.046 * sample_rate))


def _power_levels(
    reference: npt.NDArray[np.float64],
    estimate: npt.NDArray[np.float64],
    sample_rate: int,
    filters: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the power of both in each bin, or filter (M, K), and frame, in dB above a floor.

    The floor of both lies 100 dB below the loudest value of the reference.
    """
    n_fft = _n_fft(sample_rate)
    window = torch.hann_window(n_fft, dtype=torch.float64)
    powers = []
    for audio in (reference, estimate):
        spectrum = torch.stft(
            torch.from_numpy(audio),
            n_fft,
            hop_length=n_fft // 4,
            window=window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.abs().square()
        powers.append(power if filters is None else filters @ power)
    floor = max(1e-10 * powers[0].max().item(), 1e-20)
    first, second = (10 * power.clamp_min(floor).log10() for power in powers)
    return first, second


@functools.lru_cache(maxsize=4)
def _cepstral_transform(sample_rate: int, n_fft: int) -> tuple[Tensor, Tensor]:
    """Return mel filters (80, K) and the rows (24, 80) that take out c_1 to c_24."""
    import librosa.filters

    filters = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=_MCD_BANDS, norm=None, dtype=np.float64
    )
    order = torch.arange(1, _MCD_ORDER + 1, dtype=torch.float64)[:, None]
    band = torch.arange(_MCD_BANDS, dtype=torch.float64) + 0.5
    cosines = (math.pi * order * band / _MCD_BANDS).cos() * 2 / _MCD_BANDS
    return torch.from_numpy(filters), cosines
