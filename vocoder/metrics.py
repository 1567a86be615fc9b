"""How near one recording comes to another."""

from __future__ import annotations

import math
import types

import numpy as np
import numpy.typing as npt
import torch

from vocoder.errors import VocoderError
from vocoder.mel import MelPreset, MelSpectrogram, get_preset

_TOLERANCE = 0.1  # seconds by which two recordings of the same may differ in length


def _trim(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Check a pair (N,) and cut it to the shorter; vocoders round lengths to whole frames."""
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


def log_spectral_distance(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> float:
    """Return the log-spectral distance in dB.

    The root mean square over frequency of the difference of the log power spectra, averaged over
    frames of about 46 ms; both are floored 100 dB below the reference's loudest bin, so that
    digital silence does not count for everything.

    Args:
        reference: (N,).
        estimate: (N,); the longer is cut to the shorter where they differ by up to 0.1 s.
        sample_rate: of both, in Hz.

    Raises:
        VocoderError: they do not fit each other, or hold nothing or NaN.
    """
    pair = _trim(reference, estimate, sample_rate)
    n_fft = 2 ** round(math.log2(0.046 * sample_rate))
    window = torch.hann_window(n_fft, dtype=torch.float64)
    powers = [
        torch.stft(
            torch.from_numpy(audio),
            n_fft,
            hop_length=n_fft // 4,
            window=window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        .abs()
        .square()
        for audio in pair
    ]
    floor = max(1e-10 * powers[0].max().item(), 1e-20)
    first, second = (10 * power.clamp_min(floor).log10() for power in powers)
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
        reference: (N,).
        estimate: (N,); the longer is cut to the shorter where they differ by up to 0.1 s.
        sample_rate: of both, in Hz; the preset's.
        preset: whose mels are compared.

    Raises:
        VocoderError: they do not fit each other or the preset, or hold nothing or NaN.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    if sample_rate != preset.sample_rate:
        raise VocoderError(
            f"sample_rate: is {sample_rate}, preset {preset.name} has {preset.sample_rate}; "
            "resample the audio or name another preset"
        )
    pair = np.stack(_trim(reference, estimate, sample_rate))
    first, second = MelSpectrogram(preset)(torch.from_numpy(pair))
    return (first - second).abs().mean().item()


def stoi(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Return the short-time objective intelligibility, about 0 to 1 (Taal et al., 2011).

    Args:
        reference: (N,).
        estimate: (N,); the longer is cut to the shorter where they differ by up to 0.1 s.
        sample_rate: of both, in Hz.

    Raises:
        VocoderError: they do not fit each other, or pystoi is not installed.
    """
    pair = _trim(reference, estimate, sample_rate)
    return float(_extra("pystoi").stoi(*pair, sample_rate))


def pesq(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Return the wide-band perceptual quality, 1.0 to 4.64 (ITU-T P.862.2), at 16 kHz.

    Args:
        reference: (N,).
        estimate: (N,); the longer is cut to the shorter where they differ by up to 0.1 s.
        sample_rate: of both, in Hz; resampled to 16 kHz.

    Raises:
        VocoderError: they do not fit each other, PESQ finds no speech in them, or pesq is not
            installed.
    """
    pair = list(_trim(reference, estimate, sample_rate))
    module = _extra("pesq")
    if sample_rate != 16000:
        import librosa

        pair = [
            librosa.resample(audio, orig_sr=sample_rate, target_sr=16000, res_type="soxr_hq")
            for audio in pair
        ]
    try:
        with np.errstate(invalid="ignore"):  # it divides by the peak, also of silence
            return float(module.pesq(16000, pair[0], pair[1], "wb"))
    except module.PesqError as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise VocoderError(f"pesq: {reason}; it wants speech of a quarter second or more") from None


def _extra(name: str) -> types.ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise VocoderError(f"{name}: not installed; run: pip install 'vocoder[metrics]'") from None
