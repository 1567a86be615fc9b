"""Epochs: the instants at which the vocal folds close, one in each period of voiced speech.

A likelihood cannot guess from a mel where in the pitch period a sample lies; epochs tell it. Two
steps find them. Praat's cross-correlation (Boersma, 1993; package praat-parselmouth) marks every
period exactly, but at a point of the wave that differs from one stretch of voice to the next. So
each stretch is then shifted, slowly and by less than a period, to where the whitened speech has its
pulses: the shifts that do so best are found by dynamic programming.
"""

from __future__ import annotations

import math
import types
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError

VERSION = 1  # of what is done beside Praat; corpora of another one are not continued

Floats = npt.NDArray[np.float64]

_FRAME = 0.032  # seconds of a frame in which speech is whitened
_PULSE = 0.0004  # seconds over which a pulse of the whitened speech is smoothed
_FLOOR = 1e-10  # power that silence is taken for, about that of rounding to 16 bits
_N_SHIFTS = 64  # places in a period that an epoch may be moved to
_STIFFNESS = 64.0  # what a shift that changes by a whole period from epoch to epoch costs
_PULSE_LIMIT = 4.0  # deviations beyond which a pulse counts no more, so that a click rules nothing
# Closures point upwards in most recordings; a weak clip alone is no proof of the contrary.
_PROOF_OF_INVERSION = 1.16
_GROSS_ERROR = 0.2  # relative difference of two pitches beyond which one of them is wrong


@dataclass(frozen=True)
class PitchRange:
    """The pitches that are looked for; children and song want a wider range than speech."""

    f_min: float = 55.0  # Hz
    f_max: float = 420.0  # Hz

    def check(self, sample_rate: int) -> None:
        """Refuse a range in which no pitch can be found.

        Raises:
            VocoderError: the range is empty, or goes beyond what the sample rate can hold.
        """
        if not 10 <= self.f_min < self.f_max <= sample_rate / 8:
            raise VocoderError(
                f"pitch range {self.f_min:g} to {self.f_max:g} Hz: must rise, and lie between "
                f"10 Hz and an eighth of the sample rate, {sample_rate / 8:g} Hz"
            )


@dataclass(frozen=True)
class EpochSummary:
    """How the epochs of a corpus were found, and how well they agree with the pitch."""

    f_min: float  # Hz
    f_max: float  # Hz
    found_by: str  # the tool and its version
    n_voiced: int  # frames of 10 ms that the pitch tracker calls voiced
    n_bad: int  # those of them in which the epochs give no pitch, or one that is a fifth off

    def __str__(self) -> str:
        """Say in one line how much of the speech is voiced, and how much of that is bad."""
        share = self.n_bad / max(1, self.n_voiced)
        return f"epochs: {self.n_voiced} voiced frames of 10 ms, {share:.1%} of them bad"


@dataclass(frozen=True)
class Epochs:
    """The epochs of a recording, and how well they agree with the pitch of the same tool."""

    positions: npt.NDArray[np.int32]  # samples (E,), strictly increasing
    n_voiced: int  # frames of 10 ms that the pitch tracker calls voiced
    n_bad: int  # those of them in which the epochs give no pitch, or one that is a fifth off


def find_epochs(audio: npt.ArrayLike, sample_rate: int, pitch: PitchRange) -> Epochs:
    """Find the instants of glottal closure in a recording.

    Two neighbours whose distance is a period of `pitch` have voiced speech between them; a longer
    distance is a pause or an unvoiced sound. So positions alone tell phase and voicing.

    Args:
        audio: one recording (N,), full scale 1.
        sample_rate: Sample rate of the audio, in Hz.
        pitch: the range to look in.

    Raises:
        VocoderError: praat-parselmouth is not installed, or the range cannot be used.
    """
    pitch.check(sample_rate)
    samples = np.asarray(audio, np.float64)
    nothing = Epochs(np.zeros(0, np.int32), 0, 0)
    # Praat's pitch wants three periods in a window, and refuses shorter sounds.
    if len(samples) < math.ceil(3 * sample_rate / pitch.f_min) + 2 or not samples.any():
        return nothing
    times, tracked = _praat(samples, sample_rate, pitch)
    positions = _anchor(times * sample_rate, samples, sample_rate, pitch)
    n_voiced, n_bad = _disagreement(positions, tracked, sample_rate, pitch)
    return Epochs(positions.astype(np.int32), n_voiced, n_bad)


def tool_version() -> str:
    """Return what finds epochs, with its version.

    Raises:
        VocoderError: praat-parselmouth is not installed.
    """
    return f"praat-parselmouth {_parselmouth().VERSION}, anchored by version {VERSION}"


def _parselmouth() -> types.ModuleType:
    """Return the package that runs Praat.

    Raises:
        VocoderError: it is not installed.
    """
    try:
        import parselmouth
    except ImportError:
        raise VocoderError(
            "epochs: praat-parselmouth is not installed; run: pip install 'vocoder[pitch]'"
        ) from None
    return parselmouth


def _praat(samples: Floats, sample_rate: int, pitch: PitchRange) -> tuple[Floats, Floats]:
    """Return the times of the periods in seconds, and rows (time, F0) of all voiced frames."""
    praat = _parselmouth()
    sound = praat.Sound(samples, sample_rate)
    track = sound.to_pitch_ac(time_step=0.01, pitch_floor=pitch.f_min, pitch_ceiling=pitch.f_max)
    f0 = track.selected_array["frequency"]
    voiced = f0 > 0
    tracked = np.stack([track.xs()[voiced], f0[voiced]], axis=1)
    points = praat.praat.call([sound, track], "To PointProcess (cc)")
    if not praat.praat.call(points, "Get number of points"):
        return np.zeros(0), tracked
    return praat.praat.call(points, "To Matrix").values[0], tracked


def _anchor(
    marks: Floats, samples: Floats, sample_rate: int, pitch: PitchRange
) -> npt.NDArray[np.int64]:
    """Shift marks (E,), in samples, by less than half a period to the pulses of the speech."""
    if not len(marks):
        return np.zeros(0, np.int64)
    longest = sample_rate / pitch.f_min
    to_next = np.append(np.diff(marks), np.inf)
    is_last = to_next > longest  # of a stretch of voice
    to_previous = np.append(np.inf, to_next[:-1])
    period = np.minimum(np.where(is_last, to_previous, to_next), longest)
    shifts = np.arange(_N_SHIFTS) / _N_SHIFTS - 0.5
    places = np.rint(marks[:, None] + shifts * period[:, None]).astype(np.int64)
    places = places.clip(0, len(samples) - 1)
    width = max(1, round(_PULSE * sample_rate))
    window = np.hanning(width + 2)[1:-1]
    pulses = np.convolve(whiten(samples, sample_rate), window / window.sum(), "same")[places]
    upward, downward = (
        _best_shifts((sign * pulses).clip(0, _PULSE_LIMIT), shifts, is_last) for sign in (1, -1)
    )
    inverted = downward[1] > _PROOF_OF_INVERSION * upward[1]
    best = downward[0] if inverted else upward[0]
    return np.unique(places[np.arange(len(marks)), best])


def _best_shifts(
    rewards: Floats, shifts: Floats, is_last: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], float]:
    """Return the shift of each epoch that collects most, and how much all collect (Viterbi).

    Args:
        rewards: (E, S), of epoch e at shift s.
        shifts: (S,), in periods.
        is_last: (E,), where a stretch of voice ends, and the next may have any shift.
    """
    costs = _STIFFNESS * (shifts[:, None] - shifts) ** 2
    free = np.zeros_like(costs)
    origins = np.zeros(rewards.shape, np.int64)
    total = rewards[0]
    for index in range(1, len(rewards)):
        reached = total[:, None] - (free if is_last[index - 1] else costs)
        origins[index] = reached.argmax(axis=0)
        total = reached.max(axis=0) + rewards[index]
    best = np.zeros(len(rewards), np.int64)
    best[-1] = total.argmax()
    for index in range(len(rewards) - 1, 0, -1):
        best[index - 1] = origins[index, best[index]]
    return best, float(total.max())


def whiten(samples: Floats, sample_rate: int) -> Floats:
    """Return what linear prediction leaves of speech (N,), at about unit deviation everywhere.

    The order is two more than the sample rate in kHz, as is usual (Markel and Gray, 1976).
    """
    order = 2 + round(sample_rate / 1000)
    half = round(_FRAME * sample_rate / 2)
    window = np.hanning(2 * half + 1)[:-1]  # overlapping halves sum to one
    padded = np.concatenate([np.zeros(half + order), samples, np.zeros(2 * half)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + order)[::half]
    spectrum = np.fft.rfft(frames[:, order:] * window, 4 * half)
    autocorrelation = np.fft.irfft(np.abs(spectrum) ** 2)[:, : order + 1]
    autocorrelation[:, 0] = autocorrelation[:, 0] * 1.0001 + _FLOOR * half
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    predictor = np.linalg.solve(autocorrelation[:, lags], autocorrelation[:, 1:, None])[..., 0]
    residual = frames[:, order:].copy()
    for lag in range(1, order + 1):
        residual -= predictor[:, lag - 1, None] * frames[:, order - lag : 2 * half + order - lag]
    power = (residual**2 * window).sum(axis=1) / half
    residual *= window / np.sqrt(power + _FLOOR)[:, None]
    white = np.zeros(half * (len(frames) + 1))
    white[: half * len(frames)] += residual[:, :half].ravel()
    white[half:] += residual[:, half:].ravel()
    return white[half : half + len(samples)]


def _disagreement(
    positions: npt.NDArray[np.int64], tracked: Floats, sample_rate: int, pitch: PitchRange
) -> tuple[int, int]:
    """Return how many frames are voiced, and in how many of them the epochs say otherwise."""
    times, f0 = tracked.T
    after = np.searchsorted(positions, times * sample_rate, side="right")
    inside = (after > 0) & (after < len(positions))
    period = np.full(len(times), np.inf)
    period[inside] = np.diff(positions)[after[inside] - 1]
    found = sample_rate / period
    bad = (np.abs(found / f0 - 1) > _GROSS_ERROR) | (found < pitch.f_min) | (found > pitch.f_max)
    return len(times), int(bad.sum())
