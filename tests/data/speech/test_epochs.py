"""Epochs of made-up voices, whose vocal folds close at known instants."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.signal import lfilter

from vocoder.data.speech import epochs as module
from vocoder.data.speech.epochs import PitchRange, find_epochs, whiten
from vocoder.errors import VocoderError

SPEECH = PitchRange()


def made_up_voice(
    rate: int, low: float, high: float, seconds: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a vowel (N,) that glides between two pitches, and its closures (E,) in samples."""
    n_samples = round(seconds * rate)
    f0 = np.geomspace(low, high, n_samples)
    phase = np.cumsum(f0 / rate)
    closures = np.flatnonzero(np.diff(np.floor(phase))) + 1
    pulses = np.zeros(n_samples)
    pulses[closures] = 1
    audio = pulses
    for formant, width in ((600, 80), (1400, 100), (2600, 150), (3500, 250)):  # Hz
        radius = np.exp(-np.pi * width / rate)
        audio = lfilter(
            [1], [1, -2 * radius * np.cos(2 * np.pi * formant / rate), radius**2], audio
        )
    audio += 1e-3 * np.abs(audio).max() * np.random.default_rng(0).standard_normal(n_samples)
    return 0.5 * audio / np.abs(audio).max(), closures


def nearest(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return how far each found position lies from the nearest true one, in samples."""
    return np.abs(found[:, None] - true).min(axis=1)


@pytest.mark.parametrize("sign", [1, -1], ids=["upright", "inverted"])
@pytest.mark.parametrize("rate", [16000, 22050, 44100])
@pytest.mark.parametrize(("low", "high"), [(70, 110), (300, 180)])
def test_closures_are_found_where_they_are(rate: int, low: int, high: int, sign: int) -> None:
    audio, closures = made_up_voice(rate, low, high)
    found = find_epochs(sign * audio, rate, SPEECH)
    inner = closures[(closures > 0.05 * rate) & (closures < 0.95 * rate)]
    assert found.positions.dtype == np.int32
    assert np.mean(nearest(inner, found.positions) <= 0.0005 * rate) > 0.98
    assert np.mean(nearest(found.positions, closures) <= 0.0005 * rate) > 0.97
    assert found.n_voiced > 85  # of a hundred frames
    assert found.n_bad <= 2


def test_positions_rise_and_lie_within_the_audio() -> None:
    audio, _ = made_up_voice(16000, 120, 80)
    positions = find_epochs(audio, 16000, SPEECH).positions
    assert (np.diff(positions) > 0).all()
    assert 0 <= positions[0] < positions[-1] < len(audio)


def test_the_same_audio_gives_the_same_epochs_at_any_level() -> None:
    audio, _ = made_up_voice(16000, 120, 180)
    first = find_epochs(audio, 16000, SPEECH)
    assert (find_epochs(audio.copy(), 16000, SPEECH).positions == first.positions).all()
    soft = find_epochs(audio / 16, 16000, SPEECH).positions
    # A pulse is as wide as it is smoothed; the places to choose from lie two samples apart.
    assert np.mean(nearest(soft, first.positions) <= 2) > 0.98


def test_a_pause_and_noise_hold_no_epochs() -> None:
    voice, _ = made_up_voice(16000, 120, 180, 0.5)
    noise = 0.02 * np.random.default_rng(1).standard_normal(8000)
    audio = np.concatenate([voice, np.zeros(8000), voice, noise])
    positions = find_epochs(audio, 16000, SPEECH).positions
    outside = [np.sum((positions > a + 400) & (positions < a + 7600)) for a in (8000, 24000)]
    inside = [np.sum((positions > a) & (positions < a + 8000)) for a in (0, 16000)]
    assert outside == [0, 0]
    assert min(inside) > 60


def test_a_high_voice_wants_a_wider_range() -> None:
    audio, closures = made_up_voice(22050, 600, 700)
    found = find_epochs(audio, 22050, PitchRange(200, 1000))
    assert len(found.positions) == pytest.approx(len(closures), rel=0.03)
    assert np.mean(nearest(found.positions, closures) <= 6) > 0.95
    narrow = find_epochs(audio, 22050, SPEECH)  # hears an octave lower, or two
    assert len(narrow.positions) < 0.6 * len(closures)


def test_frames_that_disagree_with_the_pitch_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    audio, _ = made_up_voice(16000, 120, 180)
    good = find_epochs(audio, 16000, SPEECH)
    anchor = module._anchor
    monkeypatch.setattr(module, "_anchor", lambda *arguments: anchor(*arguments)[::2])
    halved = find_epochs(audio, 16000, SPEECH)
    assert halved.n_voiced == good.n_voiced
    assert halved.n_bad == halved.n_voiced


@pytest.mark.parametrize("n_samples", [0, 1, 500, 872, 873, 874, 875, 2000])
def test_a_moment_of_sound_is_no_error(n_samples: int) -> None:
    audio, _ = made_up_voice(16000, 120, 180)
    positions = find_epochs(audio[:n_samples], 16000, SPEECH).positions
    assert len(positions) <= n_samples / 16000 * 420


@pytest.mark.parametrize("level", [0.0, 0.5, 1e-300])
def test_silence_and_a_constant_hold_no_epochs(level: float) -> None:
    found = find_epochs(np.full(8000, level), 16000, SPEECH)
    assert (len(found.positions), found.n_voiced, found.n_bad) == (0, 0, 0)


@pytest.mark.parametrize(
    ("low", "high"), [(420, 55), (55, 55), (0, 420), (-5, 420), (55, 5000), (float("nan"), 420)]
)
def test_a_range_without_a_pitch_is_refused(low: float, high: float) -> None:
    with pytest.raises(VocoderError, match=r"pitch range .* must rise, and lie between 10 Hz"):
        find_epochs(np.ones(8000), 16000, PitchRange(low, high))


def test_a_missing_tool_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    audio, _ = made_up_voice(16000, 120, 180)
    with pytest.raises(VocoderError, match=r"not installed; run: pip install 'vocoder\[pitch\]'"):
        find_epochs(audio, 16000, SPEECH)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_white_speech_is_white_and_as_long(rate: int) -> None:
    audio, _ = made_up_voice(rate, 100, 140)
    white = whiten(audio, rate)
    assert white.shape == audio.shape
    inner = white[rate // 10 : -rate // 10]
    assert inner.std() == pytest.approx(1, abs=0.15)
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner)))) ** 2
    bands = [band.mean() for band in np.array_split(spectrum[1:], 8)]
    raw = np.abs(np.fft.rfft(audio)) ** 2
    raw_bands = [band.mean() for band in np.array_split(raw[1:], 8)]
    assert max(bands) / min(bands) < 10 < 100 < max(raw_bands) / min(raw_bands)
