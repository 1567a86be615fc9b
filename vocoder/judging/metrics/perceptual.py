"""Figures that stand for listeners, by the usual libraries."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from vocoder.judging.metrics.pair import UndefinedFigureError, import_extra, sounding_pair


def stoi(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Return the short-time objective intelligibility, about 0 to 1 (Taal et al., 2011).

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz.

    Raises:
        VocoderError: they do not fit each other, or pystoi is not installed.
        UndefinedFigureError: the reference is digital silence, or there is too little speech.
    """
    pair = sounding_pair("stoi", reference, estimate, sample_rate)
    module = import_extra("pystoi")
    with warnings.catch_warnings():
        # It warns of too few frames and returns a number that looks like a very bad one.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(module.stoi(*pair, sample_rate))
        except (RuntimeWarning, ValueError):
            raise UndefinedFigureError("stoi: wants 0.4 s of speech or more") from None


def pesq(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Return the wide-band perceptual quality, 1.0 to 4.64 (ITU-T P.862.2), at 16 kHz.

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz; resampled to 16 kHz.

    Raises:
        VocoderError: they do not fit each other, or pesq is not installed.
        UndefinedFigureError: either is silent, or PESQ finds no speech in them.
    """
    pair = list(sounding_pair("pesq", reference, estimate, sample_rate))
    module = import_extra("pesq")
    if sample_rate != 16000:
        import librosa

        pair = [
            librosa.resample(audio, orig_sr=sample_rate, target_sr=16000, res_type="soxr_hq")
            for audio in pair
        ]
    try:
        with np.errstate(invalid="ignore"):  # it divides by the peak, also of silence
            return float(module.pesq(16000, pair[0], pair[1], "wb"))
    except ValueError:  # the quotient by a peak of zero is no whole number
        raise UndefinedFigureError("pesq: the estimate is silent") from None
    except module.PesqError as error:
        text = error.args[0].decode()  # as C has it
        raise UndefinedFigureError(
            f"pesq: {text}; it wants speech of a quarter second or more"
        ) from None
