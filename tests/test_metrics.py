from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from helpers import golden

from vocoder import metrics
from vocoder.errors import VocoderError
from vocoder.mel import GriffinLim, MelSpectrogram

RATE = 22050
TENSORS, _ = golden("mel")
SPEECH = TENSORS["audio.22050"].numpy()
NOISE = np.random.default_rng(0).standard_normal(len(SPEECH)).astype(np.float32)

Metric = Callable[[np.ndarray, np.ndarray, int], float]
# Each with the value of identity, and whether more is better.
METRICS: list[tuple[Metric, float, bool]] = [
    (metrics.log_spectral_distance, 0.0, False),
    (metrics.mel_distance, 0.0, False),
    (metrics.stoi, 1.0, True),
    (metrics.pesq, 4.64, True),
]
each_metric = pytest.mark.parametrize(
    ("metric", "best", "more_is_better"), METRICS, ids=[m.__name__ for m, _, _ in METRICS]
)


@each_metric
def test_identity_is_best_and_more_noise_is_worse(
    metric: Metric, best: float, more_is_better: bool
) -> None:
    assert metric(SPEECH, SPEECH, RATE) == pytest.approx(best, abs=0.01)
    values = [metric(SPEECH, SPEECH + level * NOISE, RATE) for level in (0.0, 0.003, 0.02, 0.2)]
    assert values == sorted(values, reverse=more_is_better)
    assert len(set(values)) == len(values)


def test_a_gain_has_a_known_distance() -> None:
    loud = NOISE.astype(np.float64)
    assert metrics.log_spectral_distance(loud, loud / 2, RATE) == pytest.approx(
        20 * math.log10(2), abs=1e-3
    )
    assert metrics.mel_distance(loud, loud / 2, RATE) == pytest.approx(math.log(2), abs=1e-6)


def test_digital_silence_has_no_distance_to_itself_and_a_bounded_one_to_noise() -> None:
    silence = np.zeros_like(SPEECH)
    assert metrics.log_spectral_distance(silence, silence, RATE) == 0
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
def test_whole_frames_more_or_less_do_not_matter(
    metric: Metric, best: float, more_is_better: bool
) -> None:
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
    metric: Metric, best: float, more_is_better: bool, estimate: np.ndarray, message: str
) -> None:
    with pytest.raises(VocoderError, match=message):
        metric(SPEECH, estimate, RATE)


@pytest.mark.parametrize(("metric", "module"), [(metrics.stoi, "pystoi"), (metrics.pesq, "pesq")])
def test_a_missing_extra_is_named(
    metric: Metric, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(VocoderError, match=rf"{module}: .* pip install 'vocoder\[metrics\]'"):
        metric(SPEECH, SPEECH, RATE)


def test_pesq_of_no_speech_is_told_in_one_line() -> None:
    with pytest.raises(VocoderError, match="pesq: ") as caught:
        metrics.pesq(np.zeros(RATE), np.zeros(RATE), RATE)
    assert "\n" not in str(caught.value)


def test_griffin_lim_is_the_baseline_it_should_be() -> None:
    audio = SPEECH[: len(SPEECH) // 256 * 256]
    mel = MelSpectrogram("tacotron2-22k")(TENSORS["audio.22050"][: len(audio)])
    found = GriffinLim("tacotron2-22k")(mel).numpy()[: len(audio)]
    assert metrics.stoi(audio, found, RATE) > 0.93
    assert metrics.pesq(audio, found, RATE) > 2.5
