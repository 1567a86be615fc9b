"""Errors of pitch and of voicing, both after the same tracker: pYIN (Mauch and Dixon, 2014)."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vocoder.judging.metrics.pair import UndefinedFigureError, aligned_pair

F_MIN, F_MAX = 60.0, 600.0  # Hz; speaking voices
_STEP = 0.01  # seconds from frame to frame
_WINDOW = 0.093  # seconds


class _Track(NamedTuple):
    f0: npt.NDArray[np.float64]  # Hz (T,); NaN where unvoiced
    voiced: npt.NDArray[np.bool_]  # (T,)


def f0_rmse(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Return the root mean square error of the pitch in cents, 1200 to the octave.

    Over frames of 10 ms that are voiced in both; a tracked pitch has steps of 10 cents.

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz.

    Raises:
        VocoderError: they do not fit each other.
        UndefinedFigureError: no frame is voiced in both.
    """
    first, second = _tracks(reference, estimate, sample_rate)
    both = first.voiced & second.voiced
    if not both.any():
        raise UndefinedFigureError("f0_rmse: no frame is voiced in both")
    cents = 1200 * np.log2(second.f0[both] / first.f0[both])
    return float(np.sqrt(np.mean(cents**2)))


def voicing_f1(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Return how well voiced frames of 10 ms are met: the F1 score, 0 to 1.

    It is 2·hits / (2·hits + missed + false), and 1 if nothing is voiced in either.

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz.

    Raises:
        VocoderError: they do not fit each other.
    """
    first, second = (track.voiced for track in _tracks(reference, estimate, sample_rate))
    total = int(first.sum() + second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def _tracks(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> tuple[_Track, _Track]:
    first, second = aligned_pair(reference, estimate, sample_rate)
    return _track(first.tobytes(), sample_rate), _track(second.tobytes(), sample_rate)


# Tracking takes most of the time of a comparison, and both figures want it, and every voice of a
# comparison wants that of the recording.
@functools.lru_cache(maxsize=4)
def _track(audio: bytes, sample_rate: int) -> _Track:
    import librosa

    samples = np.frombuffer(audio, np.float64)
    f0, voiced, _ = librosa.pyin(
        samples,
        fmin=F_MIN,
        fmax=F_MAX,
        sr=sample_rate,
        frame_length=2 ** round(math.log2(_WINDOW * sample_rate)),
        hop_length=max(1, round(_STEP * sample_rate)),
    )
    # A frame of zeros has no period, and librosa may call it voiced.
    return _Track(f0, voiced & np.isfinite(f0))
