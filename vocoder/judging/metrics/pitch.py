"""Errors of pitch and of voicing, both after the same tracker: Praat's (Boersma, 1993).

It finds the period by the autocorrelation of a window of three of the longest periods, and a path
through the candidates of all frames.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vocoder.judging.metrics.pair import UndefinedFigureError, aligned_pair, import_extra

F_MIN, F_MAX = 60.0, 600.0  # Hz; speaking voices
_STEP = 0.01  # seconds from frame to frame
_WINDOW = 3 / F_MIN  # seconds, below which Praat refuses a sound


class _Track(NamedTuple):
    f0: npt.NDArray[np.float64]  # Hz (T,); 0 where unvoiced
    voiced: npt.NDArray[np.bool_]  # (T,)


def f0_rmse(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Return the root mean square error of the pitch in cents, 1200 to the octave.

    Over frames of 10 ms that are voiced in both.

    Args:
        reference: Reference audio (N,).
        estimate: Audio (N,) to judge; the longer is cut to the shorter where they differ by up to
            0.1 s.
        sample_rate: Sample rate of both, in Hz.

    Raises:
        VocoderError: they do not fit each other, or praat-parselmouth is not installed.
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
        VocoderError: they do not fit each other, or praat-parselmouth is not installed.
    """
    first, second = (track.voiced for track in _tracks(reference, estimate, sample_rate))
    total = int(first.sum() + second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def _tracks(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> tuple[_Track, _Track]:
    first, second = aligned_pair(reference, estimate, sample_rate)
    return _track(first.tobytes(), sample_rate), _track(second.tobytes(), sample_rate)


# Both figures want it, and every voice of a comparison wants that of the recording.
@functools.lru_cache(maxsize=4)
def _track(audio: bytes, sample_rate: int) -> _Track:
    praat = import_extra("parselmouth", package="praat-parselmouth")
    samples = np.frombuffer(audio, np.float64)
    f0 = np.zeros(0)
    # A little more than the window, since Praat counts in seconds, rounded.
    if len(samples) > _WINDOW * sample_rate + 2:
        sound = praat.Sound(samples, sample_rate)
        track = sound.to_pitch_ac(time_step=_STEP, pitch_floor=F_MIN, pitch_ceiling=F_MAX)
        f0 = track.selected_array["frequency"]
    return _Track(f0, f0 > 0)
