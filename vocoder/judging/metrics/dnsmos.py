"""DNSMOS: what listeners would say of a recording alone, guessed by the networks of speechmos.

Reddy et al., "DNSMOS: A non-intrusive perceptual objective speech quality metric to evaluate noise
suppressors" (2021), one score on the scale of ITU-T P.808; and "DNSMOS P.835" (2022), three scores:
the signal, the background, and both together. No reference is heard, so recordings get scores too.
"""

from __future__ import annotations

import functools
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError
from vocoder.judging.metrics.pair import UndefinedFigureError, checked_audio

_RATE = 16000  # Hz


class _Scores(NamedTuple):
    overall: float
    signal: float
    background: float
    p808: float


def dnsmos_overall(audio: npt.ArrayLike, sample_rate: int) -> float:
    """Return the overall quality, 1 to 5 (DNSMOS P.835, OVRL).

    Args:
        audio: (N,), full scale 1; what goes beyond is clipped, as in a WAV file.
        sample_rate: Sample rate of the audio, in Hz; resampled to 16 kHz.

    Raises:
        VocoderError: it holds nothing or NaN, or speechmos is not installed.
        UndefinedFigureError: it is digital silence.
    """
    return _scores(audio, sample_rate).overall


def dnsmos_signal(audio: npt.ArrayLike, sample_rate: int) -> float:
    """Return the quality of the speech in it, 1 to 5 (DNSMOS P.835, SIG).

    Args and errors are those of `dnsmos_overall`.
    """
    return _scores(audio, sample_rate).signal


def dnsmos_background(audio: npt.ArrayLike, sample_rate: int) -> float:
    """Return how little the background disturbs, 1 to 5 (DNSMOS P.835, BAK).

    Args and errors are those of `dnsmos_overall`.
    """
    return _scores(audio, sample_rate).background


def dnsmos_p808(audio: npt.ArrayLike, sample_rate: int) -> float:
    """Return the overall quality, 1 to 5, by the network of 2021 (DNSMOS, ITU-T P.808).

    Args and errors are those of `dnsmos_overall`.
    """
    return _scores(audio, sample_rate).p808


def _scores(audio: npt.ArrayLike, sample_rate: int) -> _Scores:
    samples = checked_audio("audio", audio, sample_rate).clip(-1, 1)
    if not samples.any():
        raise UndefinedFigureError("dnsmos: the audio is silent")
    return _scores_of(samples.tobytes(), sample_rate)


# All four come from one run, and every voice of a comparison wants those of its own audio.
@functools.lru_cache(maxsize=4)
def _scores_of(content: bytes, sample_rate: int) -> _Scores:
    samples = np.frombuffer(content, np.float64)
    judge = _judge()
    if sample_rate != _RATE:
        import librosa

        samples = librosa.resample(
            samples, orig_sr=sample_rate, target_sr=_RATE, res_type="soxr_hq"
        )
    found = judge(samples.clip(-1, 1), _RATE, False)  # resampling overshoots, and is refused then
    names = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
    return _Scores(*(float(found[name]) for name in names))


@functools.cache
def _judge() -> Any:
    """Return the networks, each on one thread, so that scores do not vary with the machine."""
    try:
        import onnxruntime

        dnsmos = import_module("speechmos.dnsmos")
    except ImportError as error:
        raise VocoderError(
            f"speechmos: {error.name} is not installed; run: pip install 'vocoder[metrics]'"
        ) from None
    folder = Path(str(dnsmos.__file__)).with_name("dnsmos_models")
    p835, p808 = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    judge = dnsmos.DNSMOS(p835, p808)
    judge.onnx_sess, judge.p808_onnx_sess = (
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for path in (p835, p808)
    )
    return judge
