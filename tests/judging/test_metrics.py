from __future__ import annotations

import math
import sys
from collections.abc import Callable

import librosa
import numpy as np
import pytest
from helpers import golden

from vocoder.errors import VocoderError
from vocoder.judging import metrics
from vocoder.mel.griffin_lim import GriffinLim
from vocoder.mel.spectrogram import MelSpectrogram

RATE = 22050
TENSORS, _ = golden("mel")
SPEECH = TENSORS["audio.22050"].numpy()
NOISE = np.random.default_rng(0).standard_normal(len(SPEECH)).astype(np.float32)

Metric = Callable[[np.ndarray, np.ndarray, int], float]


def tone_bias(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    return metrics.tone_bias(reference, estimate, sample_rate, 16)


# Each with the value of identity.
METRICS: list[tuple[Metric, float]] = [
    (metrics.log_spectral_distance, 0.0),
    (metrics.mel_distance, 0.0),
    (metrics.mel_cepstral_distortion, 0.0),
    (metrics.f0_rmse, 0.0),
    (metrics.voicing_f1, 1.0),
    (tone_bias, 0.0),
    (metrics.stoi, 1.0),
    (metrics.pesq, 4.64),
]
each_metric = pytest.mark.parametrize(
    ("metric", "best"), METRICS, ids=[m.__name__ for m, _ in METRICS]
)


@each_metric
def test_identity_is_best(metric: Metric, best: float) -> None:
    assert metric(SPEECH, SPEECH, RATE) == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize(
    ("metric", "more_is_better"),
    [
        (metrics.log_spectral_distance, False),
        (metrics.mel_distance, False),
        (metrics.mel_cepstral_distortion, False),
        (metrics.stoi, True),
        (metrics.pesq, True),
    ],
)
def test_more_noise_is_worse(metric: Metric, more_is_better: bool) -> None:
    values = [metric(SPEECH, SPEECH + level * NOISE, RATE) for level in (0.0, 0.003, 0.02, 0.2)]
    assert values == sorted(values, reverse=more_is_better)
    assert len(set(values)) == len(values)


def test_a_gain_has_a_known_distance() -> None:
    loud = NOISE.astype(np.float64)
    assert metrics.log_spectral_distance(loud, loud / 2, RATE) == pytest.approx(
        20 * math.log10(2), abs=1e-3
    )
    assert metrics.mel_distance(loud, loud / 2, RATE) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    "metric",
    [metrics.log_spectral_distance, metrics.mel_cepstral_distortion, metrics.stoi, metrics.pesq],
)
def test_what_measures_from_the_level_of_a_recording_is_undefined_of_a_silent_one(
    metric: Metric,
) -> None:
    silence = np.zeros_like(SPEECH)
    for estimate in (silence, SPEECH):
        with pytest.raises(metrics.UndefinedFigureError, match=f"{metric.__name__}: .* silent"):
            metric(silence, estimate, RATE)


def test_digital_silence_beside_speech_has_a_bounded_distance_to_noise() -> None:
    silence = np.zeros_like(SPEECH)
    padded = np.concatenate([SPEECH, silence])
    hiss = np.concatenate([SPEECH, 1e-7 * NOISE])
    assert metrics.log_spectral_distance(padded, hiss, RATE) < 1


def test_mel_distance_takes_the_preset_of_the_rate() -> None:
    audio = TENSORS["audio.24000"].numpy()
    assert metrics.mel_distance(audio, audio / 2, 24000, preset="pwg-24k") == pytest.approx(
        math.log10(2), abs=1e-6
    )
    with pytest.raises(VocoderError, match="is 24000, preset tacotron2-22k has 22050"):
        metrics.mel_distance(audio, audio, 24000)


@each_metric
def test_whole_frames_more_or_less_do_not_matter(metric: Metric, best: float) -> None:
    longer = np.concatenate([SPEECH, np.zeros(256, np.float32)])
    for pair in ((SPEECH, longer), (longer, SPEECH)):
        assert metric(*pair, RATE) == pytest.approx(best, abs=0.01)


@each_metric
@pytest.mark.parametrize(
    ("estimate", "message"),
    [
        (SPEECH[:-4000], "has 18050 samples, the reference 22050"),
        (SPEECH[None], r"estimate: has shape \(1, 22050\)"),
        (np.full_like(SPEECH, np.nan), "estimate: is empty, or holds NaN"),
        (SPEECH[:0], "estimate: is empty"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    metric: Metric, best: float, estimate: np.ndarray, message: str
) -> None:
    with pytest.raises(VocoderError, match=message):
        metric(SPEECH, estimate, RATE)


@each_metric
def test_a_rate_of_nothing_is_refused(metric: Metric, best: float) -> None:
    with pytest.raises(VocoderError, match="sample_rate: is 0"):
        metric(SPEECH, SPEECH, 0)


@pytest.mark.parametrize(("metric", "module"), [(metrics.stoi, "pystoi"), (metrics.pesq, "pesq")])
def test_a_missing_extra_is_named(
    metric: Metric, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(VocoderError, match=rf"{module}: .* pip install 'vocoder\[metrics\]'"):
        metric(SPEECH, SPEECH, RATE)


@pytest.mark.parametrize(
    ("reference", "estimate", "message"),
    [
        (SPEECH, np.zeros_like(SPEECH), "pesq: the estimate is silent"),
        (SPEECH, 1e-30 * NOISE, "pesq: the estimate is silent"),
        (1e-30 * NOISE, SPEECH, "pesq: No utterances detected; it wants speech"),
        (SPEECH[:2000], SPEECH[:2000], "pesq: Buffer needs to be at least 1/4 of a second"),
    ],
)
def test_pesq_of_no_speech_is_told_in_one_line(
    reference: np.ndarray, estimate: np.ndarray, message: str
) -> None:
    with pytest.raises(metrics.UndefinedFigureError, match=rf"\A{message}[^\n]*\Z"):
        metrics.pesq(reference, estimate, RATE)


def test_stoi_of_a_moment_is_no_figure() -> None:
    with pytest.raises(metrics.UndefinedFigureError, match="stoi: "):
        metrics.stoi(SPEECH[8000:12000], SPEECH[8000:12000], RATE)


# ---- DNSMOS, which hears no reference ----

NO_REFERENCE = [
    metrics.dnsmos_overall,
    metrics.dnsmos_signal,
    metrics.dnsmos_background,
    metrics.dnsmos_p808,
]


@pytest.mark.parametrize("metric", NO_REFERENCE)
def test_noise_spoils_what_listeners_would_say(metric: Callable[..., float]) -> None:
    clean, noisy = metric(SPEECH, RATE), metric(SPEECH + 0.2 * NOISE, RATE)
    assert 1 < noisy < clean - 0.3
    assert clean < 5


@pytest.mark.slow
def test_dnsmos_is_that_of_its_own_library() -> None:
    speechmos = pytest.importorskip("speechmos.dnsmos")
    audio = librosa.resample(
        SPEECH.astype(np.float64), orig_sr=RATE, target_sr=16000, res_type="soxr_hq"
    )
    found = speechmos.run(audio.clip(-1, 1), 16000)
    names = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
    ours = [metric(SPEECH, RATE) for metric in NO_REFERENCE]
    # Threads may add in another order; the networks compute in float32.
    assert ours == pytest.approx([float(found[name]) for name in names], abs=1e-4)
    assert ours == [metric(audio, 16000) for metric in NO_REFERENCE]


@pytest.mark.slow
def test_dnsmos_hears_what_a_wav_file_would_hold() -> None:
    loud = 3 * SPEECH / np.abs(SPEECH).max()
    assert metrics.dnsmos_overall(loud, RATE) == metrics.dnsmos_overall(loud.clip(-1, 1), RATE)


def test_dnsmos_of_silence_is_no_figure() -> None:
    with pytest.raises(metrics.UndefinedFigureError, match="dnsmos: the audio is silent"):
        metrics.dnsmos_p808(np.zeros(RATE), RATE)


@pytest.mark.parametrize("metric", NO_REFERENCE)
@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (SPEECH[None], RATE, r"audio: has shape \(1, 22050\)"),
        (SPEECH[:0], RATE, "audio: is empty"),
        (np.full_like(SPEECH, np.nan), RATE, "audio: is empty, or holds NaN"),
        (SPEECH, 0, "sample_rate: is 0"),
    ],
)
def test_what_dnsmos_cannot_hear_is_refused(
    metric: Callable[..., float], audio: np.ndarray, rate: int, message: str
) -> None:
    with pytest.raises(VocoderError, match=message):
        metric(audio, rate)


@pytest.mark.parametrize("module", ["speechmos.dnsmos", "onnxruntime", "requests"])
def test_what_dnsmos_lacks_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vocoder.judging.metrics import dnsmos

    monkeypatch.delitem(sys.modules, "speechmos.dnsmos", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    dnsmos._judge.cache_clear()
    dnsmos._scores_of.cache_clear()
    with pytest.raises(
        VocoderError, match=rf"speechmos: {module} is not .* pip install 'vocoder\[metrics\]'"
    ):
        metrics.dnsmos_overall(SPEECH, RATE)


# ---- mel-cepstral distortion ----


def test_a_gain_is_no_mel_cepstral_distortion() -> None:
    loud = NOISE.astype(np.float64)
    distance = metrics.mel_cepstral_distortion
    assert distance(loud, loud / 2, RATE) == pytest.approx(0, abs=1e-9)
    # Both see the same floor only if neither reaches it.
    assert distance(loud, NOISE[::-1].copy(), RATE) == pytest.approx(
        distance(NOISE[::-1].copy(), loud, RATE), abs=1e-6
    )


@pytest.mark.parametrize("order", [1, 5, 12])
def test_a_ripple_along_the_mel_scale_has_a_known_distortion(order: int) -> None:
    """A ripple of 3 dB amplitude is 3/√2 dB in the root mean square, whatever its order."""
    loud = NOISE.astype(np.float64)
    mel = librosa.hz_to_mel(np.fft.rfftfreq(len(loud), 1 / RATE))
    centres = librosa.hz_to_mel(librosa.mel_frequencies(82, fmin=0, fmax=RATE / 2))
    position = np.interp(mel, centres, np.arange(82) - 0.5) / 80
    level = 3 * np.cos(math.pi * order * position)  # dB
    rippled = np.fft.irfft(np.fft.rfft(loud) * 10 ** (level / 20), len(loud))
    distance = metrics.mel_cepstral_distortion(loud, rippled, RATE)
    # The mean over a band of the filters lowers a fast ripple a little.
    assert distance == pytest.approx(3 / math.sqrt(2), rel=0.05)


# ---- pitch and voicing ----


def hum(frequency: float, seconds: float = 0.6) -> np.ndarray:
    """A voice-like tone with falling harmonics."""
    phase = 2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE
    return 0.2 * np.sum([np.sin(k * phase) / k for k in range(1, 8)], axis=0)


def test_a_tone_a_semitone_higher_is_a_hundred_cents_off() -> None:
    low, high = hum(150), hum(150 * 2 ** (1 / 12))
    assert metrics.f0_rmse(low, high, RATE) == pytest.approx(100, abs=10)
    assert metrics.f0_rmse(high, low, RATE) == pytest.approx(100, abs=10)
    same = metrics.f0_rmse(low, low / 3, RATE)  # loudness is no pitch
    assert same == pytest.approx(0, abs=1e-6)
    assert metrics.voicing_f1(low, high, RATE) == pytest.approx(1, abs=0.05)


def test_what_is_voiced_in_half_has_a_known_score() -> None:
    whole = hum(150, 1.2)
    half = whole.copy()
    half[len(half) // 2 :] = 0.05 * NOISE[: len(half) - len(half) // 2]
    # Every voiced frame of the half is right, and half of those of the whole are missed: 2/3.
    for pair in ((whole, half), (half, whole)):
        assert metrics.voicing_f1(*pair, RATE) == pytest.approx(2 / 3, abs=0.02)


def test_noise_has_no_pitch() -> None:
    noise = 0.1 * NOISE[:11025]
    with pytest.raises(metrics.UndefinedFigureError, match="no frame is voiced in both"):
        metrics.f0_rmse(hum(150, 0.5), noise, RATE)
    assert metrics.voicing_f1(noise, noise, RATE) == 1
    assert metrics.voicing_f1(hum(150, 0.5), noise, RATE) < 0.1


def test_what_is_shorter_than_three_periods_has_no_pitch() -> None:
    for n in (1, 2, 500, 1100, 1103, 1105):  # Praat refuses what is shorter than 50 ms
        assert metrics.voicing_f1(NOISE[:n], NOISE[:n], RATE) == 1


# ---- lines at multiples of rate/H ----

HISS = 0.01 * np.random.default_rng(1).standard_normal(4 * RATE)


@pytest.mark.parametrize("n_height", [3, 8, 16, 64, 256])
def test_white_noise_has_no_lines(n_height: int) -> None:
    frequencies, levels = metrics.tone_levels(HISS, RATE, n_height)
    assert len(frequencies) == (n_height - 1) // 2
    assert 0 < frequencies.min() <= frequencies.max() < RATE / 2
    assert np.mean(levels) == pytest.approx(0, abs=0.5)
    assert np.abs(levels).max() < 2


@pytest.mark.parametrize(("n_height", "line"), [(8, 1), (8, 3), (16, 5), (64, 1), (20, 9)])
@pytest.mark.parametrize("level", [6.0, 20.0, 40.0])
def test_a_tone_is_measured_to_half_a_decibel(n_height: int, line: int, level: float) -> None:
    """Its power over that of white noise in the band of a line, 5 bins of 10.8 Hz."""
    band = 5 / 2048 * 2  # of all that the noise holds, up to rate/2
    # (tone + noise in the band) / noise in the band is to be `level`.
    power = (10 ** (level / 10) - 1) * np.var(HISS) * band
    time = np.arange(len(HISS)) / RATE
    tone = np.sqrt(2 * power) * np.sin(2 * np.pi * line * RATE / n_height * time + 0.3)
    levels = metrics.tone_levels(HISS + tone, RATE, n_height)[1]
    assert levels[line - 1] == pytest.approx(level, abs=0.5)
    assert np.abs(np.delete(levels, line - 1)).max(initial=0) < 1.5


def test_a_line_between_the_multiples_is_no_bias() -> None:
    tone = 0.05 * np.sin(2 * np.pi * 1.5 * RATE / 16 * np.arange(len(HISS)) / RATE)
    assert np.abs(metrics.tone_levels(HISS + tone, RATE, 16)[1]).max() < 1.5


def test_a_hum_in_the_pauses_is_heard_below_loud_speech() -> None:
    speech = np.concatenate([SPEECH * 0.5, 1e-4 * NOISE])  # a second of each
    time = np.arange(len(speech)) / RATE
    line = np.sin(2 * np.pi * 3 * RATE / 16 * time)
    soft, loud = (tone_bias(speech, speech + a * line, RATE) for a in (1e-4, 1e-3))
    # Seven lines, of which one stands out, averaged as powers.
    band = np.var(1e-4 * NOISE) * 5 / 2048 * 2
    expected = [10 * np.log10(1 + a**2 / 2 / band / 7) for a in (1e-4, 1e-3)]
    assert [soft, loud] == pytest.approx(expected, abs=1)
    # A line that the recording has is not the vocoder's doing, and its absence no fault.
    assert tone_bias(speech + 1e-3 * line, speech + 1e-3 * line, RATE) == 0
    assert tone_bias(speech + 1e-3 * line, speech, RATE) == 0


def test_digital_silence_has_no_lines() -> None:
    silence = np.zeros(RATE)
    assert metrics.tone_levels(silence, RATE, 16)[1] == pytest.approx(0, abs=1e-6)
    assert tone_bias(silence, 1e-3 * HISS[:RATE], RATE) < 1


def test_lines_want_rows_and_a_window_of_audio() -> None:
    with pytest.raises(VocoderError, match="n_height: is 2; lines below rate/2 want 3 rows"):
        metrics.tone_levels(HISS, RATE, 2)
    with pytest.raises(
        metrics.UndefinedFigureError, match="1000 samples are too few; it wants 2048"
    ):
        metrics.tone_bias(HISS[:1000], HISS[:1000], RATE, 16)


def test_griffin_lim_is_the_baseline_it_should_be() -> None:
    audio = SPEECH[: len(SPEECH) // 256 * 256]
    mel = MelSpectrogram("tacotron2-22k")(TENSORS["audio.22050"][: len(audio)])
    found = GriffinLim("tacotron2-22k")(mel).numpy()[: len(audio)]
    assert metrics.stoi(audio, found, RATE) > 0.93
    assert metrics.pesq(audio, found, RATE) > 2.5
